-- Which life of the log this is: it changes when a standby takes over, which may lack the end of
-- what was written before. The timeline is that of the write position: the control file's may lag
-- behind a promotion.
create or replace function postrider.log_incarnation()
returns text language sql stable
set search_path = postrider, pg_temp
as $$
  select (select c.system_identifier::text from pg_control_system() c)
    || ':' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
$$;
