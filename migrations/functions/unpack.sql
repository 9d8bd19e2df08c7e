-- The messages inside stored record batches (Kafka's RecordBatch, magic 2), for people with psql.
-- Batches that were compressed by their topic's setting show that they are there, without key,
-- value and headers. kind: json, text, bytes, tombstone, or unknown where another client wrote it.
create or replace function postrider.unpack(records bytea)
returns table (
  nth int, compression text, kind text, key_bytes bytea, value_bytes bytea, headers jsonb)
language plpgsql immutable
set search_path = postrider, pg_temp
as $$
declare
  -- Out of its compressed form once, not at every byte.
  data bytea := records || ''::bytea;
  batch int := 0;
  batch_end int;
  at int;
  number bigint;
  attributes int;
  header_count int;
  name text;
  content bytea;
begin
  nth := 0;
  while batch < octet_length(data) loop
    batch_end := batch + 12 + ('x' || encode(substr(data, batch + 9, 4), 'hex'))::bit(32)::int;
    compression := (array['none', 'gzip', 'snappy', 'lz4', 'zstd'])
      [1 + (get_byte(data, batch + 22) & 7)];
    at := batch + 61;
    for i in 1..('x' || encode(substr(data, batch + 58, 4), 'hex'))::bit(32)::int loop
      kind := null;
      key_bytes := null;
      value_bytes := null;
      headers := null;
      if compression = 'none' then
        select v.at into at from unpack_varint(data, at) v;
        attributes := get_byte(data, at);
        select v.at into at from unpack_varint(data, at + 1) v;
        select v.at into at from unpack_varint(data, at) v;
        select v.at, v.number into at, number from unpack_varint(data, at) v;
        if number >= 0 then
          key_bytes := substr(data, at + 1, number::int);
          at := at + number::int;
        end if;
        select v.at, v.number into at, number from unpack_varint(data, at) v;
        if number >= 0 then
          value_bytes := substr(data, at + 1, number::int);
          at := at + number::int;
        end if;
        kind := case when value_bytes is null then 'tombstone'
          else (array['unknown', 'json', 'text', 'bytes'])[1 + (attributes & 3)] end;
        select v.at, v.number into at, header_count from unpack_varint(data, at) v;
        for h in 1..header_count loop
          select v.at, v.number into at, number from unpack_varint(data, at) v;
          name := convert_from(substr(data, at + 1, number::int), 'UTF8');
          select v.at, v.number into at, number from unpack_varint(data, at + number::int) v;
          content := substr(data, at + 1, greatest(number, 0)::int);
          at := at + greatest(number, 0)::int;
          -- A name may come more than once: its values in their order.
          headers := coalesce(headers, '{}') || jsonb_build_object(name,
            coalesce(headers -> name, '[]') || jsonb_build_array(
              coalesce(as_text(content), 'base64:' || encode(content, 'base64'))));
        end loop;
      end if;
      return next;
      nth := nth + 1;
    end loop;
    batch := batch_end;
  end loop;
end
$$;
