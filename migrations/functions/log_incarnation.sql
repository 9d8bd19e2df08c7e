-- Which history the log is in: the system and its timeline, in hexadecimal. It changes when a
-- standby is promoted. The timeline comes from the name of the file that is written, since
-- pg_control_checkpoint() tells the old one until the first checkpoint after a promotion.
create or replace function postrider.log_incarnation()
returns text language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  system bigint := 0;
begin
  begin
    system := (select s.system_identifier from pg_control_system() s);
  exception when insufficient_privilege then
    system := 0;
  end;
  return to_hex(system) || '-' || lower(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8));
end
$$;
