-- What stands in the way of a flush: an offset that another one got, a request that came before.
-- Nothing in the way: no rows, and the marks and keys of the flush stand, to be committed with its
-- messages. Else a row for each thing, and nothing of this call is left behind: marks kept without
-- their messages would answer for what is not there.
--
-- Called by append_N alone, once in a transaction, which holds the partitions' locks and pins the
-- plans. Marks and keys are sorted and once each, and all nodes sort alike, so that two flushes
-- never wait for each other in a circle; marks come before keys. Claims are numbered from 1, the
-- marks first. Their parts are part_ids (places in ids) and part_shifts (messages before them in
-- the batch), from firsts to lasts.
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
  is_met boolean;
begin
  for _ in 1 .. 3 loop
    -- A refusal undoes the inserts with the block. They are plain ones: "on conflict" probes the
    -- key first and writes a record to the WAL for each row, which is more than the block costs,
    -- a transaction id of its own for each flush with claims.
    begin
      is_met := false;
      -- Waits for whoever holds the same sequence and is not committed.
      if marks > 0 then
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
        where c.owner is not null;
      end if;
      if tenants is not null then
        insert into idempotency_keys
          (tenant_id, scope, idempotency_key, body_hash, status, answer, results)
        select c.tenant, c.scope, c.key, hashes[marks + c.n], 200, layouts[marks + c.n],
          array(
            select next_offsets[part_ids[part]] + part_shifts[part]
            from generate_series(firsts[marks + c.n], lasts[marks + c.n]) part)
        from unnest(tenants, scopes, keys) with ordinality c (tenant, scope, key, n);
      end if;
      -- In a statement after the insert: a mark that was pruned left a newest one behind, which
      -- was committed before it went.
      if marks > 0 then
        perform 1 from unnest(lowest) low (n)
        where exists (
          select from producer_marks m
          where m.owner_id = owners[low.n] and m.producer_id = producers[low.n]
            and m.sequence >= sequences[low.n] + producer_window);
        if found then
          raise sqlstate 'PR001';
        end if;
      end if;
      if expects is not null then
        perform 1 from unnest(expects, next_offsets) u (expected, next_offset)
        where u.expected >= 0 and u.expected <> u.next_offset;
        if found then
          raise sqlstate 'PR001';
        end if;
      end if;
      return;
    exception
      when unique_violation then is_met := true;
      when sqlstate 'PR001' then null;
    end;
    -- "limit 1" keeps each look one by key: a join with an empty table is planned as a scan.
    return query
      select case when sought.is_old then 7 else 6 end::smallint, null::bigint, c.n,
        null::timestamptz
      from unnest(owners, producers, sequences) with ordinality c (owner, producer, sequence, n)
      cross join lateral (
        select true as is_old from producer_marks m
        where m.owner_id = c.owner and m.producer_id = c.producer
          and m.sequence >= c.sequence + producer_window
        union all
        select false from producer_marks m
        where m.owner_id = c.owner and m.producer_id = c.producer and m.sequence = c.sequence
        limit 1
      ) sought
      union all
      select 6::smallint, null::bigint, marks + c.n, null::timestamptz
      from unnest(tenants, scopes, keys) with ordinality c (tenant, scope, key, n)
      cross join lateral (
        select from idempotency_keys k
        where k.tenant_id = c.tenant and k.scope = c.scope and k.idempotency_key = c.key
        limit 1
      ) sought;
    -- What came before is answered as it was, whatever it expects; and the insert ended at the
    -- first that was met, so of the others' offsets nothing is said yet.
    if found then
      return;
    end if;
    if not is_met then
      return query
        select 5::smallint, u.id, u.next_offset, null::timestamptz
        from unnest(ids, expects, next_offsets) u (id, expected, next_offset)
        where u.expected >= 0 and u.expected <> u.next_offset;
      if found then
        return;
      end if;
    end if;
    -- What was in the way was pruned meanwhile.
  end loop;
  -- Most likely it comes twice in this flush, where it would be met each time.
  raise exception 'a claim is in the way and cannot be found' using errcode = '22000';
end
$$;
