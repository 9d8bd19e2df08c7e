-- What stands under a producer's sequence. Called in a statement after the one that met it, which
-- sees what that one waited for.
create or replace function postrider.standing_mark(
  of_owner bigint, of_producer uuid, of_sequence bigint
) returns table (body_hash bytea, answer bytea, results bigint[], status smallint)
language sql stable
set search_path = postrider, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  select m.body_hash, m.layout, m.results, 200::smallint from producer_marks m
  where m.owner_id = of_owner and m.producer_id = of_producer and m.sequence = of_sequence
$$;
