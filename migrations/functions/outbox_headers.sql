-- Headers as they lie in the log, from an object as the REST interface takes it: a string,
-- {"base64": "..."}, or an array of these for each name.
create or replace function postrider.outbox_headers(
  headers jsonb, out names text[], out contents bytea[]
) language plpgsql immutable
set search_path = postrider, pg_temp
as $$
declare
  header record;
  part jsonb;
begin
  if jsonb_typeof(headers) <> 'object' then
    raise exception 'headers are an object' using errcode = '22023';
  end if;
  names := '{}';
  contents := '{}';
  for header in select h.key, h.value from jsonb_each(headers) h loop
    for part in
      select p from jsonb_array_elements(
        case jsonb_typeof(header.value) when 'array' then header.value
          else jsonb_build_array(header.value) end) p
    loop
      names := names || header.key;
      if jsonb_typeof(part) = 'string' then
        contents := contents || convert_to(part #>> '{}', 'UTF8');
      elsif jsonb_typeof(part) = 'object' and jsonb_typeof(part -> 'base64') = 'string'
        and part - 'base64' = '{}'
      then
        contents := contents || decode(part ->> 'base64', 'base64');
      else
        raise exception 'the header "%" is a string, {"base64": ...} or an array of these',
          header.key using errcode = '22023';
      end if;
    end loop;
  end loop;
end
$$;
