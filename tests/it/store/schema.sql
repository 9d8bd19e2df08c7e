CREATE SCHEMA postrider;

CREATE FUNCTION postrider.begin_drop(of_bucket bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
begin
  perform 1 from buckets b
  where b.bucket_id = of_bucket and b.state = 'sealed'
    and not exists (
      select from segments s
      join partitions p on p.partition_id = s.partition_id and p.deleted_at is null
      left join topics t on t.topic_id = p.owner_id
      where s.bucket_id = b.bucket_id
        and (t.retention_ms is null
          or b.sealed_at + t.retention_ms * interval '1 millisecond' > clock_timestamp()))
  for update;
  if not found then
    return false;
  end if;
  insert into partition_lows (partition_id, low_offset)
  select s.partition_id, max(s.end_offset) from segments s
  where s.bucket_id = of_bucket group by s.partition_id
  on conflict do nothing;
  -- Nodes that remember the old watermark look again. Slot 0 is maintenance's: drops come one at
  -- a time, from the node that holds the duty.
  insert into wakes (slot, n, partition_ids)
  select 0, 1 + coalesce((select max(w.n) from wakes w where w.slot = 0), 0),
    array_agg(distinct s.partition_id)
  from segments s where s.bucket_id = of_bucket having count(*) > 0;
  update buckets b set state = 'dropping' where b.bucket_id = of_bucket;
  return true;
end
$$;

CREATE FUNCTION postrider.enter_bucket(ids bigint[], this_bucket bigint, this_class smallint) RETURNS SETOF bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  id bigint;
  newest postrider.segments;
  e record;
begin
  foreach id in array ids loop
    select * into newest from segments s
    where s.partition_id = id order by s.first_offset desc limit 1;
    if not found then
      insert into segments
        (partition_id, first_offset, bucket_id, retention_class, first_bytes, first_at)
      values (id, 0, this_bucket, this_class, 0, clock_timestamp());
      continue;
    end if;
    if newest.bucket_id = this_bucket and newest.end_offset is null then
      continue;
    end if;
    if newest.retention_class = this_class and newest.bucket_id >= this_bucket then
      return next id;
      continue;
    end if;
    e := segment_end(newest);
    if e.end_offset = newest.first_offset then
      -- An empty segment (its append was refused later) moves, since its key would be the same.
      update segments s
      set bucket_id = this_bucket, retention_class = this_class,
        end_offset = null, end_bytes = null, end_at = null
      where s.partition_id = id and s.first_offset = newest.first_offset;
    else
      update segments s
      set end_offset = e.end_offset, end_bytes = e.end_bytes, end_at = e.end_at
      where s.partition_id = id and s.first_offset = newest.first_offset and s.end_offset is null;
      insert into segments
        (partition_id, first_offset, bucket_id, retention_class, first_bytes, first_at)
      values (id, e.end_offset, this_bucket, this_class, e.end_bytes, e.end_at);
    end if;
  end loop;
end
$$;

CREATE FUNCTION postrider.forget_bucket(of_bucket bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  here bigint[] := array(select distinct s.partition_id from segments s
    where s.bucket_id = of_bucket order by s.partition_id);
begin
  delete from partition_lows l
  where l.partition_id = any (here)
    and (exists (
        select from partition_lows higher
        where higher.partition_id = l.partition_id and higher.low_offset > l.low_offset)
      or not exists (
        select from partitions p where p.partition_id = l.partition_id and p.deleted_at is null));
  delete from segments s
  where s.partition_id = any (here)
    and (s.bucket_id = of_bucket
      or not exists (select from buckets b where b.bucket_id = s.bucket_id))
    and (exists (
        select from segments newer
        where newer.partition_id = s.partition_id and newer.first_offset > s.first_offset)
      or not exists (
        select from partitions p where p.partition_id = s.partition_id and p.deleted_at is null));
  delete from buckets b where b.bucket_id = of_bucket and b.state = 'dropping';
end
$$;

CREATE FUNCTION postrider.group_apply(of_group bigint, ids bigint[], topics text[], indexes integer[], targets text[], at_once boolean[], seen_change bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  g postrider.groups;
  new_epoch bigint := group_next_epoch(of_group);
  this_log text := log_incarnation();
  -- An index on the deadline is no use while the clock is a function call.
  at timestamptz := clock_timestamp();
begin
  update groups gr set catalog_seen = greatest(gr.catalog_seen, seen_change)
  where gr.group_id = of_group returning gr.* into g;
  with gone as (
    delete from assignments a
    where a.group_id = of_group and not exists (
      select from partitions p where p.partition_id = a.partition_id and p.deleted_at is null)
    returning a.partition_id
  )
  delete from group_offsets o using gone
  where o.partition_id = gone.partition_id and o.group_id = of_group;
  with wanted as (
    select u.id, u.topic, u.index, u.target, u.now
    from unnest(ids, topics, indexes, targets, at_once) u (id, topic, index, target, now)
    join partitions p on p.partition_id = u.id and p.deleted_at is null
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
    returning a.partition_id
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
  )
  insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
  select m.partition_id, of_group, new_epoch, group_committed(m.partition_id, of_group), g.tenant_id
  from moved m
  union all
  select m.partition_id, of_group, new_epoch,
    case when m.partition_id > g.start_upto then 0
      when g.start = 'latest' then w.high else w.low end, g.tenant_id
  from made m cross join lateral watermarks(m.partition_id) w;
end
$$;

CREATE FUNCTION postrider.group_beat(numbers bigint[], ages_ms bigint[]) RETURNS SETOF bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  at timestamptz := clock_timestamp();
begin
  perform set_config('synchronous_commit', 'off', true);
  with heard as (
    select h.member_number, u.age from unnest(numbers, ages_ms) u (number, age)
    join member_heartbeats h on h.member_number = u.number
    order by h.member_number for update of h skip locked
  )
  update member_heartbeats h
  set seen_at = greatest(h.seen_at, at - heard.age * interval '1 millisecond')
  from heard where h.member_number = heard.member_number;
  return query select u.number from unnest(numbers) u (number)
    left join member_heartbeats h on h.member_number = u.number
    where h.member_number is null;
end
$$;

CREATE FUNCTION postrider.group_check(of_group bigint, of_member text) RETURNS TABLE(partition_id bigint, topic text, index integer, epoch bigint, revoke_ms bigint, committed bigint, is_current boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  this_log text := log_incarnation();
  at timestamptz := clock_timestamp();
begin
  return query
    select null::bigint, g.name, null::int, m.generation, null::bigint, g.version, g.is_paused
    from groups g
    left join group_members m on m.group_id = g.group_id and m.member_id = of_member
    where g.group_id = of_group and g.deleted_at is null;
  return query
    select a.partition_id, a.topic, a.index, a.epoch,
      case when a.revoke_deadline is not null then
        greatest(0, extract(epoch from a.revoke_deadline - at) * 1000)::bigint end,
      group_committed(a.partition_id, of_group), a.log_incarnation = this_log
    from assignments a
    where a.group_id = of_group and a.member_id = of_member
    order by a.topic, a.index;
end
$$;

CREATE FUNCTION postrider.group_commit(of_group bigint, ids bigint[], epochs bigint[], nexts bigint[], vouched boolean[]) RETURNS TABLE(outcome smallint, high bigint)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  this_log text;
  standing postrider.assignments;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a commit of offsets needs read committed' using errcode = '25001';
  end if;
  perform pg_advisory_xact_lock_shared(360287970189639680 + of_group);
  this_log := log_incarnation();
  for i in 1 .. cardinality(ids) loop
    outcome := 0;
    high := null;
    perform 1 from group_offsets o
    where o.partition_id = ids[i] and o.group_id = of_group and o.epoch = epochs[i]
      and o.next_offset >= nexts[i]
    limit 1;
    if not found then
      select * into standing from assignments a
      where a.group_id = of_group and a.partition_id = ids[i];
      if standing.epoch is distinct from epochs[i] or standing.member_id is null then
        outcome := 1;
      elsif standing.log_incarnation <> this_log then
        outcome := 3;
      else
        if not vouched[i] then
          select w.high into high from watermarks(ids[i]) w;
        end if;
        if nexts[i] > high or (high is null and not vouched[i]) then
          outcome := 2;
        else
          insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
          values (ids[i], of_group, epochs[i], nexts[i], standing.tenant_id)
          on conflict do nothing;
        end if;
      end if;
    end if;
    return next;
  end loop;
end
$$;

CREATE FUNCTION postrider.group_committed(of_partition bigint, of_group bigint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
  select o.next_offset from group_offsets o
  where o.partition_id = of_partition and o.group_id = of_group
  order by o.epoch desc, o.next_offset desc limit 1
$$;

CREATE FUNCTION postrider.group_confirm(of_group bigint, of_member text, of_generation bigint, ids bigint[], epochs bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  moved bigint;
  new_epoch bigint;
  this_log text := log_incarnation();
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  perform 1 from group_members m
  where m.group_id = of_group and m.member_id = of_member and m.generation = of_generation;
  if not found then
    return 0;
  end if;
  perform 1 from unnest(ids, epochs) u (id, epoch)
  join assignments a on a.group_id = of_group and a.partition_id = u.id and a.epoch = u.epoch
    and a.member_id = of_member and a.revoke_deadline is not null;
  if not found then
    return 0;
  end if;
  new_epoch := group_next_epoch(of_group);
  with given as (
    update assignments a set member_id = a.target_id, revoke_deadline = null, epoch = new_epoch,
      log_incarnation = this_log
    from unnest(ids, epochs) u (id, epoch)
    where a.group_id = of_group and a.partition_id = u.id and a.epoch = u.epoch
      and a.member_id = of_member and a.revoke_deadline is not null
    returning a.partition_id, a.tenant_id
  )
  insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
  select given.partition_id, of_group, new_epoch,
    group_committed(given.partition_id, of_group), given.tenant_id
  from given;
  get diagnostics moved = row_count;
  return moved;
end
$$;

CREATE FUNCTION postrider.group_delete(of_group bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  update groups g set deleted_at = clock_timestamp(), version = g.version + 1
  where g.group_id = of_group and g.deleted_at is null;
  if not found then
    return false;
  end if;
  delete from member_heartbeats h using group_members m
  where m.group_id = of_group and h.member_number = m.member_number;
  delete from group_members m where m.group_id = of_group;
  delete from group_offsets o using assignments a
  where a.group_id = of_group and o.partition_id = a.partition_id and o.group_id = of_group;
  delete from assignments a where a.group_id = of_group;
  return true;
end
$$;

CREATE FUNCTION postrider.group_drop_partitions(ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  touched bigint[] := array(
    select distinct a.group_id from assignments a
    where a.partition_id = any (ids) order by a.group_id);
  one bigint;
begin
  foreach one in array touched loop
    perform pg_advisory_xact_lock(360287970189639680 + one);
  end loop;
  delete from group_offsets o
  where o.partition_id = any (ids) and o.group_id = any (touched);
  delete from assignments a where a.partition_id = any (ids) and a.group_id = any (touched);
  foreach one in array touched loop
    perform group_next_epoch(one);
  end loop;
end
$$;

CREATE FUNCTION postrider.group_expire(of_group bigint, alive_ms bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  gone bigint;
begin
  with silent as (
    delete from member_heartbeats h
    where h.group_id = of_group
      and h.seen_at < clock_timestamp() - h.session_timeout_ms * interval '1 millisecond'
      and (h.session_timeout_ms <= alive_ms or alive_ms >= 5000)
    returning h.member_number
  )
  delete from group_members m using silent where m.member_number = silent.member_number;
  get diagnostics gone = row_count;
  return gone;
end
$$;

CREATE FUNCTION postrider.group_join(of_group bigint, of_member text, wanted bigint, wanted_patterns text[], timeout_ms bigint, first_start text, OUT outcome smallint, OUT generation bigint, OUT member_number bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  standing postrider.group_members;
begin
  update groups g set deleted_at = null, created_at = clock_timestamp(), is_paused = false,
    start = first_start, catalog_seen = 0, start_upto = coalesce(
      (select p.partition_id from partitions p order by p.partition_id desc limit 1), 0)
  where g.group_id = of_group and g.deleted_at is not null;
  select * into standing from group_members m
  where m.group_id = of_group and m.member_id = of_member;
  outcome := case when found then 2 else 0 end;
  if found and wanted <= standing.generation then
    outcome := case when wanted < standing.generation then 3
      when standing.patterns = wanted_patterns and standing.session_timeout_ms = timeout_ms then 1
      else 4 end;
    generation := standing.generation;
    member_number := standing.member_number;
    return;
  end if;
  -- Without a number the clock's: one that left or was silent had a lower one.
  generation := coalesce(wanted, standing.generation + 1,
    (extract(epoch from clock_timestamp()) * 1000)::bigint);
  delete from member_heartbeats h where h.member_number = standing.member_number;
  delete from group_members m where m.group_id = of_group and m.member_id = of_member;
  insert into group_members as m
    (group_id, member_id, tenant_id, generation, patterns, session_timeout_ms)
  select of_group, of_member, g.tenant_id, group_join.generation, wanted_patterns, timeout_ms
  from groups g where g.group_id = of_group
  returning m.member_number into group_join.member_number;
  insert into member_heartbeats (member_number, tenant_id, group_id, session_timeout_ms, seen_at)
  select group_join.member_number, g.tenant_id, of_group, timeout_ms, clock_timestamp()
  from groups g where g.group_id = of_group;
end
$$;

CREATE FUNCTION postrider.group_lag(of_group bigint) RETURNS TABLE(partition_id bigint, topic text, index integer, member_id text, epoch bigint, is_revoked boolean, committed bigint, low bigint, high bigint, lag_ms bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
declare
  segment postrider.segments;
  first_at timestamptz;
begin
  for partition_id, topic, index, member_id, epoch, is_revoked, committed, low, high in
    select a.partition_id, a.topic, a.index, a.member_id, a.epoch, a.revoke_deadline is not null,
      group_committed(a.partition_id, of_group), w.low, w.high
    from assignments a cross join lateral watermarks(a.partition_id) w
    where a.group_id = of_group order by a.topic, a.index
  loop
    lag_ms := null;
    if greatest(committed, low) < high then
      first_at := null;
      select * into segment from segments s
      where s.partition_id = group_lag.partition_id
        and s.first_offset <= greatest(group_lag.committed, group_lag.low)
      order by s.first_offset desc limit 1;
      if found and to_regclass('postrider.batches_' || segment.bucket_id) is not null then
        execute format(
          'select appended_at from postrider.batches_%s
           where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
          segment.bucket_id)
          into first_at using group_lag.partition_id, greatest(committed, low);
      end if;
      lag_ms := greatest(0, extract(epoch from clock_timestamp() - first_at) * 1000)::bigint;
    end if;
    return next;
  end loop;
end
$_$;

CREATE FUNCTION postrider.group_leave(of_group bigint, of_member text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  gone bigint;
begin
  delete from group_members m where m.group_id = of_group and m.member_id = of_member
  returning m.member_number into gone;
  if not found then
    return false;
  end if;
  delete from member_heartbeats h where h.member_number = gone;
  return true;
end
$$;

CREATE FUNCTION postrider.group_next_epoch(of_group bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  next_epoch bigint;
begin
  update groups g set
    last_epoch = greatest(g.last_epoch + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint),
    version = g.version + 1
  where g.group_id = of_group
  returning g.last_epoch into next_epoch;
  return next_epoch;
end
$$;

CREATE FUNCTION postrider.group_open(of_tenant bigint, of_name text, first_start text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
declare
  found_group bigint;
begin
  select g.group_id into found_group from groups g
  where g.tenant_id = of_tenant and g.name = of_name;
  if found then
    return found_group;
  end if;
  insert into groups (tenant_id, name, start, start_upto)
  values (of_tenant, of_name, first_start, coalesce(
    (select p.partition_id from partitions p order by p.partition_id desc limit 1), 0))
  on conflict on constraint groups_tenant_id_name_key do nothing
  returning group_id into found_group;
  if found_group is null then
    select g.group_id into found_group from groups g
    where g.tenant_id = of_tenant and g.name = of_name;
  end if;
  return found_group;
end
$$;

CREATE FUNCTION postrider.group_prune(ids bigint[], group_ids bigint[], epochs bigint[], nexts bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  gone bigint;
begin
  delete from group_offsets o
  using unnest(ids, group_ids, epochs, nexts) u (id, group_id, epoch, next_offset)
  where o.partition_id = u.id and o.group_id = u.group_id
    and (o.epoch, o.next_offset) < (u.epoch, u.next_offset);
  get diagnostics gone = row_count;
  return gone;
end
$$;

CREATE FUNCTION postrider.group_renew(of_group bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  renewed bigint;
  new_epoch bigint;
  this_log text := log_incarnation();
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  perform 1 from assignments a where a.group_id = of_group and a.log_incarnation <> this_log;
  if not found then
    return 0;
  end if;
  new_epoch := group_next_epoch(of_group);
  with anew as (
    update assignments a set epoch = new_epoch, log_incarnation = this_log
    where a.group_id = of_group and a.log_incarnation <> this_log
    returning a.partition_id, a.tenant_id
  )
  insert into group_offsets (partition_id, group_id, epoch, next_offset, tenant_id)
  select anew.partition_id, of_group, new_epoch,
    group_committed(anew.partition_id, of_group), anew.tenant_id
  from anew;
  get diagnostics renewed = row_count;
  return renewed;
end
$$;

CREATE FUNCTION postrider.group_seek(of_group bigint, ids bigint[], nexts bigint[]) RETURNS TABLE(partition_id bigint, epoch bigint)
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  new_epoch bigint;
  this_log text := log_incarnation();
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  new_epoch := group_next_epoch(of_group);
  return query
    with moved as (
      update assignments a set epoch = new_epoch, log_incarnation = this_log
      from unnest(ids, nexts) u (id, next_offset)
      where a.group_id = of_group and a.partition_id = u.id
      returning a.partition_id, a.tenant_id, u.next_offset
    ), begun as (
      insert into group_offsets as o (partition_id, group_id, epoch, next_offset, tenant_id)
      select moved.partition_id, of_group, new_epoch, moved.next_offset, moved.tenant_id
      from moved returning o.partition_id
    )
    select begun.partition_id, new_epoch from begun;
end
$$;

CREATE FUNCTION postrider.group_set_paused(of_group bigint, paused boolean) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
begin
  perform pg_advisory_xact_lock(360287970189639680 + of_group);
  update groups g set is_paused = paused, version = g.version + 1
  where g.group_id = of_group and g.deleted_at is null;
  return found;
end
$$;

CREATE FUNCTION postrider.group_versions(ids bigint[], versions bigint[]) RETURNS TABLE(group_id bigint, log_incarnation text)
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
  select u.id, null::text
  from unnest(ids, versions) u (id, version)
  left join groups g on g.group_id = u.id and g.deleted_at is null
  where g.version is distinct from u.version
  union all
  select null::bigint, log_incarnation()
$$;

CREATE FUNCTION postrider.group_view(of_group bigint) RETURNS TABLE(member_id text, number bigint, partition_id bigint, topic text, index integer, epoch bigint, ms bigint, is_paused boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  at timestamptz := clock_timestamp();
begin
  return query
    select null::text, null::bigint, null::bigint, null::text, null::int, g.version, null::bigint,
      g.is_paused
    from groups g where g.group_id = of_group and g.deleted_at is null;
  if not found then
    return;
  end if;
  return query
    select m.member_id, m.member_number, null::bigint, null::text, null::int, m.generation,
      m.session_timeout_ms, null::boolean
    from group_members m where m.group_id = of_group;
  return query
    select a.member_id, null::bigint, a.partition_id, a.topic, a.index, a.epoch,
      case when a.revoke_deadline is not null then
        greatest(0, extract(epoch from a.revoke_deadline - at) * 1000)::bigint end,
      null::boolean
    from assignments a where a.group_id = of_group and a.member_id is not null
    order by a.topic, a.index;
end
$$;

CREATE FUNCTION postrider.groups_due(alive_ms bigint) RETURNS TABLE(group_id bigint, next_ms bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  at timestamptz := clock_timestamp();
  newest bigint := coalesce(
    (select c.change_id from catalog_changes c order by c.change_id desc limit 1), 0);
  first_silent timestamptz;
  first_deadline timestamptz;
begin
  select min(h.seen_at + h.session_timeout_ms * interval '1 millisecond') into first_silent
  from member_heartbeats h
  where h.session_timeout_ms <= alive_ms or alive_ms >= 5000;
  select min(a.revoke_deadline) into first_deadline from assignments a
  where a.revoke_deadline is not null;
  if first_silent < at then
    return query select distinct h.group_id, null::bigint from member_heartbeats h
      where h.seen_at < at - h.session_timeout_ms * interval '1 millisecond'
        and (h.session_timeout_ms <= alive_ms or alive_ms >= 5000);
  end if;
  if first_deadline < at then
    return query select distinct a.group_id, null::bigint from assignments a
      where a.revoke_deadline < at;
  end if;
  return query select distinct a.group_id, null::bigint from assignments a
    where a.member_id is distinct from a.target_id and a.revoke_deadline is null;
  return query select g.group_id, null::bigint from groups g
    where g.catalog_seen < newest and g.deleted_at is null
      and exists (select from group_members m where m.group_id = g.group_id);
  return query select null::bigint,
    greatest(0, extract(epoch from least(first_silent, first_deadline) - at) * 1000)::bigint;
end
$$;

CREATE FUNCTION postrider.log_incarnation() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
  select (select c.system_identifier::text from pg_control_system() c)
    || ':' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
$$;

CREATE FUNCTION postrider.offset_at(of_partition bigint, at timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
declare
  segment postrider.segments;
  lo bigint;
  hi bigint;
  batch record;
begin
  -- The newest segment that begins before that time; its messages may still all be older.
  select * into segment from segments s
  where s.partition_id = of_partition and s.first_at < at
  order by s.first_offset desc limit 1;
  if not found then
    return partition_low(of_partition);
  end if;
  -- The newest segment outlives its bucket: what it held is gone.
  if to_regclass('postrider.batches_' || segment.bucket_id) is null then
    return greatest(segment.end_offset, partition_low(of_partition));
  end if;
  lo := segment.first_offset;
  hi := (segment_end(segment)).end_offset;
  while lo < hi loop
    execute format(
      'select base_offset, last_offset, appended_at from postrider.batches_%s
       where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
      segment.bucket_id)
      into batch using of_partition, (lo + hi - 1) / 2 + (lo + hi - 1) % 2;
    if batch.appended_at < at then
      lo := batch.last_offset + 1;
    else
      hi := batch.base_offset;
    end if;
  end loop;
  return greatest(lo, partition_low(of_partition));
end
$_$;

CREATE FUNCTION postrider.open_wake_slot(of_node bigint) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
  insert into wake_slots (node_id) values (of_node) returning slot
$$;

CREATE FUNCTION postrider.partition_low(of_partition bigint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    AS $$
  select greatest(
    coalesce((select l.low_offset from partition_lows l
      where l.partition_id = of_partition order by l.low_offset desc limit 1), 0),
    coalesce((select s.first_offset from segments s
      where s.partition_id = of_partition order by s.first_offset limit 1), 0))
$$;

CREATE FUNCTION postrider.roll_buckets(of_class smallint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  next_bucket bigint;
begin
  select b.bucket_id into next_bucket from buckets b
  where b.retention_class = of_class and b.state = 'ahead' and b.opens_at <= clock_timestamp()
  order by b.bucket_id desc limit 1;
  if not found then
    return false;
  end if;
  update buckets b set state = 'open' where b.bucket_id = next_bucket;
  update buckets b set state = 'closed'
  where b.retention_class = of_class and b.bucket_id < next_bucket and b.state in ('ahead', 'open');
  return true;
end
$$;

CREATE FUNCTION postrider.seal_bucket(of_bucket bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'postrider', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
declare
  segment postrider.segments;
  e record;
begin
  if not pg_try_advisory_xact_lock(72057594037927936 + of_bucket) then
    return false;
  end if;
  perform 1 from buckets b where b.bucket_id = of_bucket and b.state = 'closed' for update;
  if not found then
    return false;
  end if;
  for segment in
    select * from segments s where s.bucket_id = of_bucket and s.end_offset is null
    order by s.partition_id, s.first_offset
  loop
    e := segment_end(segment);
    update segments s
    set end_offset = e.end_offset, end_bytes = e.end_bytes, end_at = e.end_at
    where s.partition_id = segment.partition_id and s.first_offset = segment.first_offset
      and s.end_offset is null;
  end loop;
  update buckets b set state = 'sealed', sealed_at = clock_timestamp()
  where b.bucket_id = of_bucket;
  return true;
end
$$;

CREATE TABLE postrider.segments (
    partition_id bigint NOT NULL,
    first_offset bigint NOT NULL,
    end_offset bigint,
    bucket_id bigint NOT NULL,
    retention_class smallint NOT NULL,
    first_bytes bigint NOT NULL,
    first_at timestamp with time zone NOT NULL,
    end_bytes bigint,
    end_at timestamp with time zone
);

CREATE FUNCTION postrider.segment_end(segment postrider.segments, OUT end_offset bigint, OUT end_bytes bigint, OUT end_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    AS $_$
begin
  if segment.end_offset is not null then
    end_offset := segment.end_offset;
    end_bytes := segment.end_bytes;
    end_at := segment.end_at;
    return;
  end if;
  execute format(
    'select last_offset + 1, end_bytes, appended_at from postrider.batches_%s
     where partition_id = $1 and base_offset >= $2 order by base_offset desc limit 1',
    segment.bucket_id)
    into end_offset, end_bytes, end_at
    using segment.partition_id, segment.first_offset;
  end_offset := coalesce(end_offset, segment.first_offset);
  end_bytes := coalesce(end_bytes, segment.first_bytes);
  end_at := coalesce(end_at, segment.first_at);
end
$_$;

CREATE FUNCTION postrider.wakes_since(own_node bigint, slots bigint[], seen bigint[]) RETURNS TABLE(slot bigint, n bigint, partition_ids bigint[])
    LANGUAGE sql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
  select ws.slot, max(w.n), array_agg(distinct p.id)
  from wake_slots ws
  left join unnest(slots, seen) known (slot, n) on known.slot = ws.slot
  cross join lateral (
    select w.n, w.partition_ids from wakes w
    where w.slot = ws.slot and w.n > coalesce(known.n, 0) order by w.n
  ) w
  cross join lateral unnest(w.partition_ids) p (id)
  where ws.node_id <> own_node
  group by ws.slot
$$;

CREATE FUNCTION postrider.watermarks(of_partition bigint) RETURNS TABLE(low bigint, high bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'postrider', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
  newest postrider.segments;
begin
  perform 1 from partitions p where p.partition_id = of_partition and p.deleted_at is null;
  if not found then
    return;
  end if;
  select * into newest from segments s
  where s.partition_id = of_partition order by s.first_offset desc limit 1;
  high := 0;
  if found then
    high := (segment_end(newest)).end_offset;
  end if;
  low := partition_low(of_partition);
  return next;
end
$$;

CREATE TABLE postrider.assignments (
    group_id bigint NOT NULL,
    partition_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    topic text NOT NULL COLLATE pg_catalog."C",
    index integer NOT NULL,
    member_id text COLLATE pg_catalog."C",
    target_id text COLLATE pg_catalog."C",
    revoke_deadline timestamp with time zone,
    epoch bigint NOT NULL,
    log_incarnation text NOT NULL
);

CREATE TABLE postrider.batches (
    bucket_id bigint NOT NULL,
    partition_id bigint NOT NULL,
    base_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    end_bytes bigint NOT NULL,
    appended_at timestamp with time zone NOT NULL,
    records bytea NOT NULL
)
PARTITION BY LIST (bucket_id);

CREATE TABLE postrider.buckets (
    bucket_id bigint NOT NULL,
    retention_class smallint NOT NULL,
    state text NOT NULL,
    opens_at timestamp with time zone NOT NULL,
    closes_at timestamp with time zone NOT NULL,
    sealed_at timestamp with time zone,
    CONSTRAINT buckets_state_check CHECK ((state = ANY (ARRAY['ahead'::text, 'open'::text, 'closed'::text, 'sealed'::text, 'dropping'::text])))
);

ALTER TABLE postrider.buckets ALTER COLUMN bucket_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.buckets_bucket_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.catalog_changes (
    change_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE postrider.catalog_changes ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.catalog_changes_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.group_members (
    group_id bigint NOT NULL,
    member_id text NOT NULL COLLATE pg_catalog."C",
    tenant_id bigint NOT NULL,
    member_number bigint NOT NULL,
    generation bigint NOT NULL,
    patterns text[] NOT NULL,
    session_timeout_ms bigint NOT NULL,
    joined_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT group_members_session_timeout_ms_check CHECK ((session_timeout_ms > 0))
);

ALTER TABLE postrider.group_members ALTER COLUMN member_number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.group_members_member_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.group_offsets (
    partition_id bigint NOT NULL,
    group_id bigint NOT NULL,
    epoch bigint NOT NULL,
    next_offset bigint NOT NULL,
    tenant_id bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_threshold='-1');

CREATE TABLE postrider.groups (
    group_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    deleted_at timestamp with time zone,
    is_paused boolean DEFAULT false NOT NULL,
    start text NOT NULL,
    start_upto bigint NOT NULL,
    last_epoch bigint DEFAULT 0 NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    catalog_seen bigint DEFAULT 0 NOT NULL,
    CONSTRAINT groups_start_check CHECK ((start = ANY (ARRAY['earliest'::text, 'latest'::text])))
)
WITH (fillfactor='50');

ALTER TABLE postrider.groups ALTER COLUMN group_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.groups_group_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.idempotency_keys (
    tenant_id bigint NOT NULL,
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    body_hash bytea NOT NULL,
    status smallint NOT NULL,
    answer bytea NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE postrider.installed_functions (
    only_row boolean DEFAULT true NOT NULL,
    fingerprint text NOT NULL,
    CONSTRAINT installed_functions_only_row_check CHECK (only_row)
);

CREATE TABLE postrider.member_heartbeats (
    member_number bigint NOT NULL,
    tenant_id bigint NOT NULL,
    group_id bigint NOT NULL,
    session_timeout_ms bigint NOT NULL,
    seen_at timestamp with time zone NOT NULL
)
WITH (fillfactor='30', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', vacuum_truncate=off);

CREATE TABLE postrider.migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);

CREATE TABLE postrider.node_keys (
    purpose text NOT NULL,
    key bytea NOT NULL
);

CREATE TABLE postrider.nodes (
    node_id bigint NOT NULL,
    name text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
)
WITH (fillfactor='50');

ALTER TABLE postrider.nodes ALTER COLUMN node_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.nodes_node_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE SEQUENCE postrider.owner_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE postrider.partition_lows (
    partition_id bigint NOT NULL,
    low_offset bigint NOT NULL
);

CREATE TABLE postrider.partitions (
    partition_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    index integer NOT NULL,
    lane smallint DEFAULT 0 NOT NULL,
    retention_class smallint NOT NULL,
    deleted_at timestamp with time zone
);

ALTER TABLE postrider.partitions ALTER COLUMN partition_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.partitions_partition_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.producer_marks (
    owner_id bigint NOT NULL,
    producer_id uuid NOT NULL,
    sequence bigint NOT NULL,
    body_hash bytea NOT NULL,
    results bigint[] NOT NULL,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE postrider.retention_classes (
    retention_class smallint NOT NULL,
    longest interval,
    bucket_window interval NOT NULL,
    CONSTRAINT retention_classes_bucket_window_check CHECK ((bucket_window > '00:00:00'::interval))
);

CREATE TABLE postrider.subscriptions (
    subscription_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE postrider.subscriptions ALTER COLUMN subscription_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.subscriptions_subscription_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.tenants (
    tenant_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE postrider.tenants ALTER COLUMN tenant_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME postrider.tenants_tenant_id_seq
    START WITH 2
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.topics (
    topic_id bigint DEFAULT nextval('postrider.owner_id_seq'::regclass) NOT NULL,
    tenant_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    partition_count integer NOT NULL,
    retention_ms bigint,
    retention_bytes bigint,
    durability text NOT NULL,
    compression text NOT NULL,
    max_message_bytes integer NOT NULL,
    keyless text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT topics_compression_check CHECK ((compression = ANY (ARRAY['none'::text, 'lz4'::text, 'zstd'::text]))),
    CONSTRAINT topics_durability_check CHECK ((durability = ANY (ARRAY['local'::text, 'replicated'::text]))),
    CONSTRAINT topics_keyless_check CHECK ((keyless = ANY (ARRAY['sticky'::text, 'round_robin'::text]))),
    CONSTRAINT topics_max_message_bytes_check CHECK ((max_message_bytes > 0)),
    CONSTRAINT topics_partition_count_check CHECK ((partition_count > 0)),
    CONSTRAINT topics_retention_bytes_check CHECK ((retention_bytes > 0)),
    CONSTRAINT topics_retention_ms_check CHECK ((retention_ms > 0))
);

CREATE TABLE postrider.wake_slots (
    slot bigint NOT NULL,
    node_id bigint NOT NULL,
    opened_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE postrider.wake_slots ALTER COLUMN slot ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME postrider.wake_slots_slot_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE postrider.wakes (
    slot bigint NOT NULL,
    n bigint NOT NULL,
    partition_ids bigint[] NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_threshold='-1', vacuum_truncate=off);

ALTER TABLE ONLY postrider.assignments
    ADD CONSTRAINT assignments_pkey PRIMARY KEY (group_id, partition_id);

ALTER TABLE ONLY postrider.buckets
    ADD CONSTRAINT buckets_pkey PRIMARY KEY (bucket_id);

ALTER TABLE ONLY postrider.catalog_changes
    ADD CONSTRAINT catalog_changes_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY postrider.group_members
    ADD CONSTRAINT group_members_member_number_key UNIQUE (member_number);

ALTER TABLE ONLY postrider.group_members
    ADD CONSTRAINT group_members_pkey PRIMARY KEY (group_id, member_id);

ALTER TABLE ONLY postrider.group_offsets
    ADD CONSTRAINT group_offsets_pkey PRIMARY KEY (partition_id, group_id, epoch, next_offset);

ALTER TABLE ONLY postrider.groups
    ADD CONSTRAINT groups_pkey PRIMARY KEY (group_id);

ALTER TABLE ONLY postrider.groups
    ADD CONSTRAINT groups_tenant_id_name_key UNIQUE (tenant_id, name);

ALTER TABLE ONLY postrider.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, idempotency_key);

ALTER TABLE ONLY postrider.installed_functions
    ADD CONSTRAINT installed_functions_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY postrider.member_heartbeats
    ADD CONSTRAINT member_heartbeats_pkey PRIMARY KEY (member_number);

ALTER TABLE ONLY postrider.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY postrider.node_keys
    ADD CONSTRAINT node_keys_pkey PRIMARY KEY (purpose);

ALTER TABLE ONLY postrider.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY postrider.partition_lows
    ADD CONSTRAINT partition_lows_pkey PRIMARY KEY (partition_id, low_offset);

ALTER TABLE ONLY postrider.partitions
    ADD CONSTRAINT partitions_owner_id_lane_index_key UNIQUE (owner_id, lane, index);

ALTER TABLE ONLY postrider.partitions
    ADD CONSTRAINT partitions_pkey PRIMARY KEY (partition_id);

ALTER TABLE ONLY postrider.producer_marks
    ADD CONSTRAINT producer_marks_pkey PRIMARY KEY (owner_id, producer_id, sequence);

ALTER TABLE ONLY postrider.retention_classes
    ADD CONSTRAINT retention_classes_pkey PRIMARY KEY (retention_class);

ALTER TABLE ONLY postrider.segments
    ADD CONSTRAINT segments_pkey PRIMARY KEY (partition_id, first_offset);

ALTER TABLE ONLY postrider.subscriptions
    ADD CONSTRAINT subscriptions_owner_id_name_key UNIQUE (owner_id, name);

ALTER TABLE ONLY postrider.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (subscription_id);

ALTER TABLE ONLY postrider.tenants
    ADD CONSTRAINT tenants_name_key UNIQUE (name);

ALTER TABLE ONLY postrider.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY postrider.topics
    ADD CONSTRAINT topics_pkey PRIMARY KEY (topic_id);

ALTER TABLE ONLY postrider.topics
    ADD CONSTRAINT topics_tenant_id_name_key UNIQUE (tenant_id, name);

ALTER TABLE ONLY postrider.wake_slots
    ADD CONSTRAINT wake_slots_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY postrider.wakes
    ADD CONSTRAINT wakes_pkey PRIMARY KEY (slot, n);

CREATE INDEX assignments_astray_idx ON postrider.assignments USING btree (group_id) WHERE ((member_id IS DISTINCT FROM target_id) AND (revoke_deadline IS NULL));

CREATE INDEX assignments_group_id_member_id_idx ON postrider.assignments USING btree (group_id, member_id);

CREATE INDEX assignments_partition_id_idx ON postrider.assignments USING btree (partition_id);

CREATE INDEX assignments_revoke_deadline_idx ON postrider.assignments USING btree (revoke_deadline) WHERE (revoke_deadline IS NOT NULL);

CREATE INDEX buckets_retention_class_state_idx ON postrider.buckets USING btree (retention_class, state, bucket_id);

CREATE INDEX segments_bucket_id_idx ON postrider.segments USING btree (bucket_id);

ALTER TABLE ONLY postrider.groups
    ADD CONSTRAINT groups_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES postrider.tenants(tenant_id);

ALTER TABLE ONLY postrider.subscriptions
    ADD CONSTRAINT subscriptions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES postrider.tenants(tenant_id);

ALTER TABLE ONLY postrider.topics
    ADD CONSTRAINT topics_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES postrider.tenants(tenant_id);

