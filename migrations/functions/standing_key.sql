-- What stands under a request's key. Called in a statement after the one that met it, which sees
-- what that one waited for.
create or replace function postrider.standing_key(
  of_tenant bigint, of_scope text, of_key text
) returns table (body_hash bytea, answer bytea, results bigint[], status smallint)
language sql stable
set search_path = postrider, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  select k.body_hash, k.answer, k.results, k.status from idempotency_keys k
  where k.tenant_id = of_tenant and k.scope = of_scope and k.idempotency_key = of_key
$$;
