//! The log in PostgreSQL: buckets, retention, plans, migrations.

mod buckets;
mod clocks;
mod group_plans;
mod long_readers;
mod migrations;
mod outbox_plans;
mod plans;
mod retention;
mod schema;
mod torture;
