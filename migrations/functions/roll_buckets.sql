-- Opens the bucket whose time has come by the database's clock and closes the older ones, in one
-- class. The new one opens before the old one closes, so there is always one to append to.
-- Buckets whose whole time passed while nobody served are closed unused. Returns whether
-- anything changed.
create or replace function postrider.roll_buckets(of_class smallint)
returns boolean language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
declare
  next_bucket bigint;
begin
  -- store::lock::BUCKETS; a statement of its own, so that the next ones see what others opened.
  perform pg_advisory_xact_lock(432345564227567616);
  select b.bucket_id into next_bucket from buckets b
  where b.retention_class = of_class and b.state = 'ahead' and b.opens_at <= clock_timestamp()
  order by b.bucket_id desc limit 1;
  if not found then
    return false;
  end if;
  update buckets b set state = 'open' where b.bucket_id = next_bucket;
  update buckets b set state = 'closed'
  where b.retention_class = of_class and b.bucket_id < next_bucket and b.state in ('ahead', 'open');
  return true;
end
$$;
