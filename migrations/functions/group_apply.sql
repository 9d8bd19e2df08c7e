-- Brings a group's assignments to a target: for each partition (once each) its topic and number,
-- who is to read it (null: nobody) and whether that holds at once, without a revoke. Partitions
-- that are gone are not among them and leave the group. The caller holds the exclusive lock.
--
-- A member that goes on living is told first and gives up by itself; whoever is no member any
-- more is not waited for. A partition once told to be revoked never comes back under its epoch.
create or replace function postrider.group_apply(
  of_group bigint, ids bigint[], topics text[], indexes int[], targets text[], at_once boolean[],
  seen_change bigint
) returns void language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  g postrider.groups;
  new_epoch bigint;
  changed bigint;
  gone bigint;
  this_log text := log_incarnation();
  -- An index on the deadline is no use while the clock is a function call.
  at timestamptz := clock_timestamp();
begin
  select * into g from groups gr where gr.group_id = of_group;
  new_epoch := greatest(g.last_epoch + 1, (extract(epoch from at) * 1000)::bigint);
  with gone as (
    delete from assignments a
    where a.group_id = of_group and not exists (
      select from partitions p where p.partition_id = a.partition_id and p.deleted_at is null)
    returning a.partition_id
  ), forgotten as (
    delete from group_offsets o using gone
    where o.partition_id = gone.partition_id and o.group_id = of_group
  )
  select count(*) from gone into gone;
  with wanted as (
    select u.id, u.topic, u.index, u.target, u.now,
      s.revoke_deadline is null or s.target_id is distinct from u.target as is_news
    from unnest(ids, topics, indexes, targets, at_once) u (id, topic, index, target, now)
    join partitions p on p.partition_id = u.id and p.deleted_at is null
    left join assignments s on s.group_id = of_group and s.partition_id = u.id
  ), told as (
    -- What goes on with a living owner: told to give up, told of another successor, or as it is.
    update assignments a set target_id = w.target,
      revoke_deadline = coalesce(a.revoke_deadline, at + interval '5 seconds')
    from wanted w
    where a.group_id = of_group and a.partition_id = w.id
      and not w.now and a.member_id is distinct from w.target
      and (a.revoke_deadline is null or a.revoke_deadline > at)
      and exists (
        select from group_members m where m.group_id = of_group and m.member_id = a.member_id)
    returning a.partition_id, w.is_news
  ), moved as (
    update assignments a set member_id = w.target, target_id = w.target, revoke_deadline = null,
      epoch = new_epoch, log_incarnation = this_log
    from wanted w
    where a.group_id = of_group and a.partition_id = w.id
      and not exists (select from told t where t.partition_id = w.id)
      and (w.now or a.revoke_deadline is not null or a.member_id is distinct from w.target
        or a.target_id is distinct from w.target)
    returning a.partition_id
  ), made as (
    insert into assignments as a (group_id, partition_id, tenant_id, topic, index, member_id,
      target_id, epoch, log_incarnation)
    select of_group, w.id, g.tenant_id, w.topic, w.index, w.target, w.target, new_epoch, this_log
    from wanted w
    where not exists (
      select from assignments s where s.group_id = of_group and s.partition_id = w.id)
    returning a.partition_id
  ), begun as (
    insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
    select m.partition_id, of_group, new_epoch, group_committed(m.partition_id, of_group),
      g.tenant_id
    from moved m
    union all
    select m.partition_id, of_group, new_epoch,
      case when m.partition_id > g.start_upto then 0
        when g.start = 'latest' then w.high else w.low end, g.tenant_id
    from made m cross join lateral watermarks(m.partition_id) w
  )
  select (select count(*) from told t where t.is_news) + (select count(*) from moved)
    + (select count(*) from made) into changed;
  -- Nodes are told only of what is news. Topics mean nothing to a group without members.
  update groups gr set catalog_seen = case
      when exists (select from group_members m where m.group_id = of_group) then seen_change
      else 9223372036854775807 end,
    last_epoch = case when changed > 0 then new_epoch else gr.last_epoch end,
    version = gr.version + (changed + gone > 0)::int
  where gr.group_id = of_group;
end
$$;
