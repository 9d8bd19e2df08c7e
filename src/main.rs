//! The `postrider` program: arguments in, exit code out.

use std::{future::Future, io::Write, process::ExitCode};

use clap::Parser;
use postrider::{
    app,
    cli::{self, Cli, CliError, Command},
    config::{DatabaseSettings, Settings},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// After how many tasks a worker looks for events. A flush that has returned is an event, and
/// under load tokio's 61 leave the database idle for as long as 61 requests take: 13 gave 5 to 8 %
/// more publishes from 64 connections up.
const EVENT_INTERVAL: u32 = 13;

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_silent() {
                let _ = writeln!(std::io::stderr(), "postrider: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => {
            let settings = Settings::resolve(&args)?;
            let workers = workers(&settings);
            // A huge page is resident though one byte of it is used, and the buffers of a
            // connection that rests are mostly unused: 12 % of 10,000 parked polls' memory, and
            // no publish was slower without.
            let _ = rustix::thread::disable_transparent_huge_pages(true);
            on_runtime(workers, async { app::serve(settings).await.map_err(CliError::from) })
        }
        Command::Migrate(args) => {
            let (database, log) = DatabaseSettings::resolve(&args.database, &args.log, &args.file)?;
            on_runtime(None, async { app::migrate(database, log).await.map_err(CliError::from) })
        }
        Command::Openapi => cli::output::print(&app::openapi()?),
        Command::Doctor(args) => on_runtime(None, async {
            let database = match cli::doctor::database(&args)? {
                Some(settings) => Some(app::doctor(settings).await),
                None => None,
            };
            cli::doctor::run(&args, database).await
        }),
        Command::Client(command) => on_runtime(None, cli::run(command)),
    }
}

/// An embedded PostgreSQL gets half of the cores. On two of them one worker published 8 to 24 %
/// more than two, which only took work from each other and from the database.
/// `TOKIO_WORKER_THREADS` says otherwise.
fn workers(settings: &Settings) -> Option<usize> {
    if settings.database.url.is_some() || std::env::var_os("TOKIO_WORKER_THREADS").is_some() {
        return None;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Some((cores / 2).max(1))
}

fn on_runtime(
    workers: Option<usize>,
    work: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_all().event_interval(EVENT_INTERVAL).build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(work);
    // A read of standard input cannot be cancelled; waiting for it would hang until the next line.
    runtime.shutdown_background();
    result
}
