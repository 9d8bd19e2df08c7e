-- A slot of its own for one stream of flushes. It is committed before the slot's first flush, so
-- that whoever reads wakes knows of it. After an unknown outcome a new one is opened: the old
-- one's next n may already be taken.
create or replace function postrider.open_wake_slot(of_node bigint)
returns bigint language sql
set search_path = postrider, pg_temp
as $$
  insert into wake_slots (node_id) values (of_node) returning slot
$$;
