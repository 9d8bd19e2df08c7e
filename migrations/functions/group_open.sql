-- The group of a name, made at the first join. Partitions that exist then begin where that join
-- says, later ones at 0.
create or replace function postrider.group_open(
  of_tenant bigint, of_name text, first_start text
) returns bigint language plpgsql
set search_path = postrider, pg_temp
as $$
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
