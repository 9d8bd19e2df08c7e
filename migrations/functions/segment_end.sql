-- Where a segment ends: the offset after its last message, the bytes up to it and its time.
-- A stored end counts; else the bucket's table is read, which is safe only while the caller
-- holds the partition's row lock or has sealed the bucket.
create or replace function postrider.segment_end(
  segment postrider.segments,
  out end_offset bigint, out end_bytes bigint, out end_at timestamptz
) language plpgsql stable
set search_path = postrider, pg_temp
as $$
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
$$;
