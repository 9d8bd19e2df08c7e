-- Consumer groups. Rules behind these tables: ARCHITECTURE.md and design section 7.
--
-- Whoever changes a group's members or assignments holds its advisory lock exclusively, a commit
-- of offsets holds it shared; polls never take it. Offsets are only inserted: the newest of a
-- partition and group by (epoch, next_offset) counts.

set local search_path = postrider;

-- A deleted group keeps its row, so that its epochs rise on when one of its name is joined again.
create table groups (
  group_id bigint generated always as identity primary key,
  tenant_id bigint not null constraint groups_tenant_id_fkey references tenants,
  name text collate "C" not null,
  created_at timestamptz not null default clock_timestamp(),
  deleted_at timestamptz,
  is_paused boolean not null default false,
  -- Where partitions begin that existed at the first join: those up to start_upto.
  start text not null constraint groups_start_check check (start in ('earliest', 'latest')),
  start_upto bigint not null,
  -- The highest epoch that an assignment of this group ever had.
  last_epoch bigint not null default 0,
  -- Rises with every change that nodes have to see.
  version bigint not null default 0,
  -- The last change of the catalog that the assignments know of.
  catalog_seen bigint not null default 0,
  constraint groups_tenant_id_name_key unique (tenant_id, name)
) with (fillfactor = 50);

-- A member under one generation. A process that comes back with a higher one has a new number,
-- under which nothing of the older process is heard any more.
create table group_members (
  group_id bigint not null,
  member_id text collate "C" not null,
  tenant_id bigint not null,
  member_number bigint generated always as identity
    constraint group_members_member_number_key unique,
  generation bigint not null,
  patterns text[] not null,
  session_timeout_ms bigint not null
    constraint group_members_session_timeout_ms_check check (session_timeout_ms > 0),
  joined_at timestamptz not null default clock_timestamp(),
  constraint group_members_pkey primary key (group_id, member_id)
);

-- When a member was last heard. Narrow and loosely filled: a beat changes a row in its own page.
create table member_heartbeats (
  member_number bigint not null,
  tenant_id bigint not null,
  group_id bigint not null,
  session_timeout_ms bigint not null,
  seen_at timestamptz not null,
  constraint member_heartbeats_pkey primary key (member_number)
) with (
  fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
  vacuum_truncate = off
);

-- Who reads a partition for a group (member_id, nobody when null) and who is to (target_id).
-- Where they differ the owner is told to give it up until revoke_deadline.
create table assignments (
  group_id bigint not null,
  partition_id bigint not null,
  tenant_id bigint not null,
  topic text collate "C" not null,
  index int not null,
  member_id text collate "C",
  target_id text collate "C",
  revoke_deadline timestamptz,
  epoch bigint not null,
  -- The system identifier and timeline that the epoch was made in.
  log_incarnation text not null,
  constraint assignments_pkey primary key (group_id, partition_id)
);
create index assignments_group_id_member_id_idx on assignments (group_id, member_id);
create index assignments_partition_id_idx on assignments (partition_id);
create index assignments_revoke_deadline_idx on assignments (revoke_deadline)
  where revoke_deadline is not null;
-- What the sweep repairs: an assignment that is not as it should be and that nobody is told of.
create index assignments_astray_idx on assignments (group_id)
  where member_id is distinct from target_id and revoke_deadline is null;

create table group_offsets (
  partition_id bigint not null,
  group_id bigint not null,
  epoch bigint not null,
  next_offset bigint not null,
  tenant_id bigint not null,
  constraint group_offsets_pkey primary key (partition_id, group_id, epoch, next_offset)
) with (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
  autovacuum_vacuum_insert_threshold = -1
);

-- What only nodes know: with it they sign what clients carry from one node to another.
create table node_keys (
  purpose text primary key,
  key bytea not null
);
insert into node_keys (purpose, key) values ('cursor',
  decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
