-- The log for people with psql: postrider.messages has every message that can be read, and
-- postrider.messages(topic, partition, from_offset, max_messages) finds its place by key.
-- key and value are text where they are text; the bytes stand beside them.
create or replace view postrider.messages as
select t.name as topic, p.index as partition, b.base_offset + m.nth as "offset",
  b.appended_at as "timestamp", m.kind,
  postrider.as_text(m.key_bytes) as key,
  case when m.kind in ('json', 'text', 'unknown') then postrider.as_text(m.value_bytes) end
    as value,
  m.headers, m.key_bytes, m.value_bytes, m.compression
from postrider.topics t
join postrider.partitions p on p.owner_id = t.topic_id and p.deleted_at is null
cross join lateral (select postrider.partition_low(p.partition_id) as low offset 0) l
join postrider.batches b on b.partition_id = p.partition_id and b.last_offset >= l.low
cross join lateral postrider.unpack(b.records) m
where b.base_offset + m.nth >= l.low;

create or replace function postrider.messages(
  topic text, partition int, from_offset bigint default 0, max_messages int default 100
) returns setof postrider.messages language plpgsql stable
set search_path = postrider, pg_temp
as $$
declare
  part record;
  base bigint;
begin
  select p.partition_id, partition_low(p.partition_id) as low into part
  from topics t join partitions p on p.owner_id = t.topic_id and p.deleted_at is null
  where t.tenant_id = 1 and t.name = messages.topic and p.index = messages.partition;
  from_offset := greatest(from_offset, part.low);
  select b.base_offset into base from batches b
  where b.partition_id = part.partition_id and b.base_offset <= from_offset
  order by b.base_offset desc limit 1;
  return query
    select messages.topic, messages.partition, b.base_offset + m.nth, b.appended_at, m.kind,
      as_text(m.key_bytes),
      case when m.kind in ('json', 'text', 'unknown') then as_text(m.value_bytes) end,
      m.headers, m.key_bytes, m.value_bytes, m.compression
    from (
      select * from batches b
      where b.partition_id = part.partition_id and b.base_offset >= coalesce(base, from_offset)
      order by b.base_offset limit max_messages
    ) b cross join lateral unpack(b.records) m
    where b.base_offset + m.nth >= from_offset
    order by 3 limit max_messages;
end
$$;
