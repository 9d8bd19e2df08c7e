-- postrider.publish(destination, value, key, headers): a message that is published if the
-- caller's transaction commits, and only then. The value may be json (kept byte for byte), jsonb,
-- text or bytea; null is a tombstone. A topic's name, or `topic:` and its name.
--
-- It runs with its owner's rights: whoever may execute it needs none on the tables.
create or replace function postrider.publish(
  destination text, value text, key text default null, headers jsonb default null
) returns void language plpgsql security definer
set search_path = postrider, pg_temp
as $$
begin
  perform outbox_add(destination, 2::smallint, convert_to(value, 'UTF8'), key, headers);
end
$$;

create or replace function postrider.publish(
  destination text, value jsonb, key text default null, headers jsonb default null
) returns void language plpgsql security definer
set search_path = postrider, pg_temp
as $$
begin
  perform outbox_add(destination, 1::smallint, convert_to(value::text, 'UTF8'), key, headers);
end
$$;

create or replace function postrider.publish(
  destination text, value json, key text default null, headers jsonb default null
) returns void language plpgsql security definer
set search_path = postrider, pg_temp
as $$
begin
  perform outbox_add(destination, 1::smallint, convert_to(value::text, 'UTF8'), key, headers);
end
$$;

create or replace function postrider.publish(
  destination text, value bytea, key text default null, headers jsonb default null
) returns void language plpgsql security definer
set search_path = postrider, pg_temp
as $$
begin
  perform outbox_add(destination, 3::smallint, value, key, headers);
end
$$;

revoke all on function postrider.publish(text, text, text, jsonb) from public;
revoke all on function postrider.publish(text, jsonb, text, jsonb) from public;
revoke all on function postrider.publish(text, json, text, jsonb) from public;
revoke all on function postrider.publish(text, bytea, text, jsonb) from public;
