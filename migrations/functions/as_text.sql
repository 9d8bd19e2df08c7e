-- Bytes as text; null where they are none that PostgreSQL can hold.
create or replace function postrider.as_text(bytes bytea)
returns text language plpgsql immutable
as $$
begin
  return convert_from(bytes, 'UTF8');
exception when character_not_in_repertoire or untranslatable_character then
  return null;
end
$$;
