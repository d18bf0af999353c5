//! SIGTERM: what the server sends to a worker whose run it gives back, and a system that shuts down to everyone.

use std::sync::{Arc, atomic::AtomicBool};

/// A flag that SIGTERM sets, instead of ending the process.
#[cfg(unix)]
pub(super) fn flag() -> std::io::Result<Arc<AtomicBool>> {
    use std::{sync::atomic::Ordering, thread};

    use tokio::{
        runtime,
        signal::unix::{SignalKind, signal},
    };

    let flag = Arc::new(AtomicBool::new(false));
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _guard = runtime.enter();
        signal(SignalKind::terminate())?
    };
    let set = flag.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(signals.recv());
        set.store(true, Ordering::Relaxed);
    })?;
    Ok(flag)
}

/// A flag that nothing sets.
#[cfg(not(unix))]
pub(super) fn flag() -> std::io::Result<Arc<AtomicBool>> {
    Ok(Arc::default())
}
