-- What stands in the way of a flush: an offset that another one got, a request that came before.
-- Nothing in the way: no rows, and the marks and keys of the flush stand, to be committed with its
-- messages. Else a row for each thing, and nothing of this call is left behind: marks kept without
-- their messages would answer for what is not there.
--
-- Called by append_N alone, which holds the partitions' locks and pins the plans. Marks and keys
-- are sorted and once each, and all nodes sort alike, so that two flushes never wait for each
-- other in a circle; marks come before keys. Claims are numbered from 1, the marks first. Their
-- parts are part_ids (places in ids) and part_shifts (messages before them in the batch), from
-- firsts to lasts.
create or replace function postrider.admit(
  ids bigint[], next_offsets bigint[], expects bigint[],
  owners bigint[], producers uuid[], sequences bigint[], lowest int[],
  tenants bigint[], scopes text[], keys text[],
  hashes bytea[], layouts bytea[], firsts int[], lasts int[], part_ids int[], part_shifts bigint[]
) returns table (outcome smallint, partition_id bigint, base_offset bigint, appended_at timestamptz)
language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  -- How many sequences of a producer are answered again; limits::PRODUCER_WINDOW.
  producer_window constant int := 64;
  marks int := coalesce(cardinality(owners), 0);
  is_refused boolean := false;
  is_told boolean;
  new_owners bigint[];
  new_producers uuid[];
  new_sequences bigint[];
  new_tenants bigint[];
  new_scopes text[];
  new_keys text[];
begin
  if marks > 0 then
    -- Waits for whoever holds the same sequence and is not committed.
    with new as (
      insert into producer_marks (owner_id, producer_id, sequence, body_hash, layout, results)
      select c.owner, c.producer, c.sequence, c.hash, c.layout,
        case when c.first = c.last
          then array[next_offsets[part_ids[c.first]] + part_shifts[c.first]]
          else array(
            select next_offsets[part_ids[part]] + part_shifts[part]
            from generate_series(c.first, c.last) part)
        end
      from unnest(owners, producers, sequences, hashes, layouts, firsts, lasts)
        c (owner, producer, sequence, hash, layout, first, last)
      where c.owner is not null
      on conflict do nothing returning owner_id, producer_id, sequence
    )
    select array_agg(new.owner_id), array_agg(new.producer_id), array_agg(new.sequence)
    into new_owners, new_producers, new_sequences from new;
    is_refused := cardinality(new_owners) is distinct from marks;
    if not is_refused then
      -- In a statement after the insert: a mark that was pruned left a newest one behind, which
      -- was committed before it went.
      perform 1 from unnest(lowest) low (n)
      where exists (
        select from producer_marks m
        where m.owner_id = owners[low.n] and m.producer_id = producers[low.n]
          and m.sequence >= sequences[low.n] + producer_window);
      is_refused := found;
    end if;
  end if;
  if tenants is not null then
    with new as (
      insert into idempotency_keys
        (tenant_id, scope, idempotency_key, body_hash, status, answer, results)
      select c.tenant, c.scope, c.key, hashes[marks + c.n], 200, layouts[marks + c.n],
        array(
          select next_offsets[part_ids[part]] + part_shifts[part]
          from generate_series(firsts[marks + c.n], lasts[marks + c.n]) part)
      from unnest(tenants, scopes, keys) with ordinality c (tenant, scope, key, n)
      on conflict do nothing returning tenant_id, scope, idempotency_key
    )
    select array_agg(new.tenant_id), array_agg(new.scope), array_agg(new.idempotency_key)
    into new_tenants, new_scopes, new_keys from new;
    is_refused := is_refused or cardinality(new_tenants) is distinct from cardinality(tenants);
  end if;
  -- What came before is answered as it was, whatever it expects now.
  return query
    select 5::smallint, u.id, u.next_offset, null::timestamptz
    from unnest(ids, expects, next_offsets) u (id, expected, next_offset)
    where u.expected >= 0 and u.expected <> u.next_offset;
  is_told := found;
  if not is_told and not is_refused then
    return;
  end if;
  return query
    select case when old.is_old then 7 else 6 end::smallint, null::bigint, c.n, null::timestamptz
    from unnest(owners, producers, sequences) with ordinality c (owner, producer, sequence, n)
    cross join lateral (
      select exists (
        select from producer_marks m
        where m.owner_id = c.owner and m.producer_id = c.producer
          and m.sequence >= c.sequence + producer_window) as is_old
    ) old
    where old.is_old or not exists (
      select from unnest(new_owners, new_producers, new_sequences) n (owner, producer, sequence)
      where n.owner = c.owner and n.producer = c.producer and n.sequence = c.sequence)
    union all
    select 6::smallint, null::bigint, marks + c.n, null::timestamptz
    from unnest(tenants, scopes, keys) with ordinality c (tenant, scope, key, n)
    where not exists (
      select from unnest(new_tenants, new_scopes, new_keys) n (tenant, scope, key)
      where n.tenant = c.tenant and n.scope = c.scope and n.key = c.key);
  -- A claim that comes twice in a flush would be taken back and its messages appended.
  if not found and not is_told then
    raise exception 'a claim comes twice in a flush' using errcode = '22000';
  end if;
  -- One at a time: a join with an empty table is planned as a scan of the whole index.
  for n in 1 .. coalesce(cardinality(new_owners), 0) loop
    delete from producer_marks m
    where m.owner_id = new_owners[n] and m.producer_id = new_producers[n]
      and m.sequence = new_sequences[n];
  end loop;
  for n in 1 .. coalesce(cardinality(new_tenants), 0) loop
    delete from idempotency_keys k
    where k.tenant_id = new_tenants[n] and k.scope = new_scopes[n]
      and k.idempotency_key = new_keys[n];
  end loop;
end
$$;
