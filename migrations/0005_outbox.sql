-- The door for SQL publishers: what they publish lies here in their own transaction until it is
-- appended. Rows are never updated and never deleted: a cursor says what has been appended, and
-- tables are emptied as a whole, so nothing bloats beside a transaction that stays open.
--
-- What a cursor covers is a snapshot and no number: a transaction that commits late, with lower
-- numbers than others that are appended already, is not covered and comes in its turn.

set local search_path = postrider;

create sequence outbox_id_seq;

-- place is shard * 3 + turn. A topic has its shard; a transaction writes to the turn of the
-- minute in which it began, and the two others can be emptied meanwhile.
create table outbox (
  place smallint not null,
  outbox_id bigint not null default nextval('postrider.outbox_id_seq'),
  xid xid8 not null default pg_current_xact_id(),
  topic_id bigint not null,
  kind smallint not null,
  key bytea,
  value bytea,
  header_names text[],
  header_values bytea[],
  published_at timestamptz not null default clock_timestamp()
) partition by list (place);
create index outbox_xid_idx on outbox (xid, outbox_id);
create index outbox_outbox_id_idx on outbox (outbox_id);
create table outbox_0 partition of outbox for values in (0);
create table outbox_1 partition of outbox for values in (1);
create table outbox_2 partition of outbox for values in (2);
create table outbox_3 partition of outbox for values in (3);
create table outbox_4 partition of outbox for values in (4);
create table outbox_5 partition of outbox for values in (5);

-- Where each shard stands; the highest n counts. Everything visible in `seen` is appended. While
-- a window up to the snapshot `until` is worked through, so are its rows up to after_id.
create table outbox_cursors (
  shard smallint not null,
  n bigint not null,
  seen pg_snapshot not null,
  until pg_snapshot,
  after_id bigint not null,
  last_id bigint not null,
  constraint outbox_cursors_pkey primary key (shard, n)
);
insert into outbox_cursors (shard, n, seen, after_id, last_id)
select shard, 1, pg_current_snapshot(), 0, 0 from generate_series(0, 1) shard;
