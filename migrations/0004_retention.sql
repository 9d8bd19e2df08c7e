-- Retention in full: limits that hide messages before their bucket goes, buckets that are frozen,
-- and deleted topics that leave nothing behind.

set local search_path = postrider;

-- When every row of a sealed bucket was frozen; null while that is to be done.
alter table buckets add column frozen_at timestamptz;

-- Partitions of deleted topics are looked through until nothing of them is left.
create index partitions_deleted_idx on partitions (partition_id) where deleted_at is not null;

-- Low watermarks move all the time, and each leaves the one before it dead.
alter table partition_lows set (
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_threshold = -1
);

-- The slot of the duty that moves low watermarks; slot 0 belongs to the one that drops buckets.
insert into wake_slots (slot, node_id) overriding system value values (-1, 0);
