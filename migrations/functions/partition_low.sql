-- The low watermark: the first offset that can be read.
create or replace function postrider.partition_low(of_partition bigint)
returns bigint language sql stable
set search_path = postrider, pg_temp
as $$
  select greatest(
    coalesce((select l.low_offset from partition_lows l
      where l.partition_id = of_partition order by l.low_offset desc limit 1), 0),
    coalesce((select s.first_offset from segments s
      where s.partition_id = of_partition order by s.first_offset limit 1), 0))
$$;
