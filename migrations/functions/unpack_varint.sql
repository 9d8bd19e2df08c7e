-- Kafka's variable-length integer at a place of bytes: zigzag, seven bits a byte, the low first.
-- Returns it and the place behind it.
create or replace function postrider.unpack_varint(data bytea, inout at int, out number bigint)
language plpgsql immutable
as $$
declare
  raw bigint := 0;
  shift int := 0;
  byte int;
begin
  loop
    byte := get_byte(data, at);
    at := at + 1;
    raw := raw | ((byte & 127)::bigint << shift);
    exit when byte < 128;
    shift := shift + 7;
  end loop;
  number := ((raw >> 1) & 9223372036854775807) # -(raw & 1);
end
$$;
