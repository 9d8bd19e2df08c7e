-- The last step: the segments of a bucket go, except each partition's newest, whose end is where
-- that partition goes on; then the bucket's row. Its table and functions are dropped by the
-- caller in the same transaction.
create or replace function postrider.forget_bucket(of_bucket bigint)
returns void language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
begin
  delete from segments s
  where s.bucket_id = of_bucket
    and (exists (
        select from segments newer
        where newer.partition_id = s.partition_id and newer.first_offset > s.first_offset)
      or not exists (
        select from partitions p where p.partition_id = s.partition_id and p.deleted_at is null));
  delete from buckets b where b.bucket_id = of_bucket and b.state = 'dropping';
end
$$;
