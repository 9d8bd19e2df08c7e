-- What a node tells of itself. One that stopped stays for a while, unlisted: its slots of wakes go
-- when everybody has read them, and whose they are is looked up here.

set local search_path = postrider;

alter table nodes
  add column version text not null default '',
  add column state text not null default 'serving',
  add constraint nodes_state_check check (state in ('serving', 'draining', 'stopped'));
