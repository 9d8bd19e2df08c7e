-- What it takes to give the first answer again. `results` holds the offset of the first message of
-- each part of the request; `layout` tells the partitions of the parts and which message lies in
-- which, and was made before anybody knew an offset.
set local search_path = postrider;

alter table producer_marks add column layout bytea not null;
-- Rows go in bulk at the lower end of each producer and never change.
alter table producer_marks set (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
  autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = off
);

-- A key counts for one tenant and one route. `answer` is the body, or where `results` are, the
-- layout of a publish.
alter table idempotency_keys
  add column scope text collate "C" not null,
  add column results bigint[],
  drop constraint idempotency_keys_pkey,
  add constraint idempotency_keys_pkey primary key (tenant_id, scope, idempotency_key);
alter table idempotency_keys set (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
  autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = off
);
