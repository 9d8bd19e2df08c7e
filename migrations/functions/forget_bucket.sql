-- The last step: the segments of a bucket go, except each partition's newest, whose end is where
-- that partition goes on; then the bucket's row. Its table and functions are dropped by the
-- caller in the same transaction.
--
-- A newest segment that an earlier drop left goes too once a newer one stands, and so do low
-- watermarks below the highest: else a partition that falls silent now and then, and a deleted
-- one, would leave rows for ever.
create or replace function postrider.forget_bucket(of_bucket bigint)
returns void language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
declare
  here bigint[] := array(select distinct s.partition_id from segments s
    where s.bucket_id = of_bucket order by s.partition_id);
begin
  delete from partition_lows l
  where l.partition_id = any (here)
    and (exists (
        select from partition_lows higher
        where higher.partition_id = l.partition_id and higher.low_offset > l.low_offset)
      or not exists (
        select from partitions p where p.partition_id = l.partition_id and p.deleted_at is null));
  delete from segments s
  where s.partition_id = any (here)
    and (s.bucket_id = of_bucket
      or not exists (select from buckets b where b.bucket_id = s.bucket_id))
    and (exists (
        select from segments newer
        where newer.partition_id = s.partition_id and newer.first_offset > s.first_offset)
      or not exists (
        select from partitions p where p.partition_id = s.partition_id and p.deleted_at is null));
  delete from buckets b where b.bucket_id = of_bucket and b.state = 'dropping';
end
$$;
