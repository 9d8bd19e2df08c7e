-- Leaves one message in the outbox, in the caller's transaction. What cannot be published is told
-- here, at the call: later there is nobody to tell. kind: 1 JSON, 2 text, 3 bytes. The shard is
-- the topic's durability: a standby that is away must not hold up those that do not ask for it.
create or replace function postrider.outbox_add(
  destination text, kind smallint, value bytea, key text, headers jsonb
) returns void language plpgsql
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  topic record;
  key_bytes bytea := convert_to(key, 'UTF8');
  names text[];
  contents bytea[];
  header_bytes bigint := 0;
begin
  if destination like 'queue:%' then
    raise exception 'publishing to queues is not supported yet: "%"', destination
      using errcode = '0A000';
  end if;
  select t.topic_id, t.max_message_bytes, (t.durability = 'replicated')::int as shard
  into topic from topics t
  where t.tenant_id = 1
    and t.name = case when destination like 'topic:%' then substr(destination, 7)
      else destination end;
  if not found then
    raise exception 'there is no topic "%"', destination using errcode = '42704',
      hint = 'Make it first: PUT /v1/topics/{topic}, or postrider topic create.';
  end if;
  if headers is not null then
    select h.names, h.contents into names, contents from outbox_headers(headers) h;
    select coalesce(sum(octet_length(n) + octet_length(c)), 0) into header_bytes
    from unnest(names, contents) h (n, c);
  end if;
  if octet_length(key_bytes) > 1024 then
    raise exception 'a key has at most 1024 bytes' using errcode = '54000';
  elsif header_bytes > 65536 then
    raise exception 'the headers of a message have at most 65536 bytes' using errcode = '54000';
  elsif coalesce(octet_length(key_bytes), 0) + coalesce(octet_length(value), 0) + header_bytes
    > topic.max_message_bytes
  then
    raise exception 'a message of the topic "%" has at most % bytes', destination,
      topic.max_message_bytes using errcode = '54000';
  end if;
  insert into outbox (place, topic_id, kind, key, value, header_names, header_values)
  values (topic.shard * 3
      + mod((extract(epoch from transaction_timestamp()) / 60)::bigint, 3),
    topic.topic_id, outbox_add.kind, key_bytes, outbox_add.value, names, contents);
end
$$;
revoke all on function postrider.outbox_add from public;
