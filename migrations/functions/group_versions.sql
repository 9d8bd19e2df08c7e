-- Which of these groups are not as a node knows them: changed, or gone. The last row has no group
-- and names the log's incarnation.
create or replace function postrider.group_versions(ids bigint[], versions bigint[])
returns table (group_id bigint, log_incarnation text) language sql stable
set search_path = postrider, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  select u.id, null::text
  from unnest(ids, versions) u (id, version)
  left join groups g on g.group_id = u.id and g.deleted_at is null
  where g.version is distinct from u.version
  union all
  select null::bigint, log_incarnation()
$$;
