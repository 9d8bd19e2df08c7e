//! Panics as one line of the log each, with the place and, for a handler's, the request.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
};

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics are lines of the log.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        let told = describe(info);
        if IS_CATCHING.get() {
            CAUGHT.with_borrow_mut(|caught| *caught = Some(told));
        } else {
            tracing::error!(panic = told.as_str(), "a task panicked");
        }
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("without a message");
    match info.location() {
        Some(place) => format!("{message} at {}:{}", place.file(), place.line()),
        None => message.to_owned(),
    }
}

/// Runs `act`; a panic in it becomes its description, for the caller to log.
///
/// # Errors
/// What the panic said and where, as far as [`install`] was called before.
pub fn catch<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    let before = IS_CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    IS_CATCHING.set(before);
    result.map_err(|_| {
        CAUGHT.with_borrow_mut(Option::take).unwrap_or_else(|| "see standard error".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_tells_its_message_and_place() {
        let before = std::panic::take_hook();
        install();
        let caught = catch(|| panic!("no {}", "way")).map(|(): ()| ());
        std::panic::set_hook(before);
        let told = caught.expect_err("it panicked");
        assert!(told.starts_with("no way at src/telemetry/panics.rs:"), "{told}");
        assert_eq!(catch(|| 7), Ok(7));
    }
}
