//! SIGHUP.

use ringpost_client::QueueOptions;
use ringpost_router::operator::reload::RELOADED;
use rustix::process::Signal;

use crate::site::{ADMIN, Control, Site, runtime, wait_until};

fn has_role(site: &Site, password: &str, role: &str) -> bool {
    Control::connect(site.control).one(&format!("auth {password}")) == format!("Current role is {role}")
}

#[test]
fn what_may_change_does_and_the_rest_is_named() {
    let site = Site::new();
    let router = site.start();
    let runtime = runtime();
    site.set("AUTH", "control_port_admin_password", "another");
    site.set("AUTH", "new_queues", "off");
    site.set("RINGPOST", "queue_quota", "1");
    site.set("RINGPOST", "connections", "77");
    router.signal(Signal::HUP);
    wait_until("the new password holds", || has_role(&site, "another", "CPRAdmin"));
    assert!(has_role(&site, ADMIN, "CPRNone"));
    runtime.block_on(async {
        let (client, _events) = site.connect().await;
        client.new_queue(QueueOptions::default()).await.unwrap_err();
    });
    router.signal(Signal::TERM);
    let (status, _, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    for words in [
        "SIGHUP: [AUTH] control_port_admin_password has changed, and holds from now on",
        "SIGHUP: [AUTH] new_queues has changed, and holds from now on",
        "SIGHUP: [RINGPOST] queue_quota has changed, and holds from now on",
        "SIGHUP: [RINGPOST] connections has changed, but needs a restart",
    ] {
        assert!(errors.contains(words), "expected {words:?} in:\n{errors}");
    }
    assert!(!errors.contains("another"), "{errors}");
}

#[test]
fn a_bad_file_changes_nothing() {
    let site = Site::new();
    let router = site.start();
    let good = site.home.read("smp-server.ini");
    site.set("AUTH", "control_port_admin_password", "another");
    site.set("RINGPOST", "queue_quota", "none");
    router.signal(Signal::HUP);
    // Signals are handled in their order: the second one finds the good file again.
    let mut control = site.admin();
    wait_until("the first one was handled", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        true
    });
    assert!(has_role(&site, "another", "CPRNone"));
    site.home.write("smp-server.ini", &good);
    assert_eq!(control.ask("sockets").len(), 5);
    router.signal(Signal::TERM);
    let (status, _, errors) = router.wait();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(errors.contains("[RINGPOST] queue_quota = none: expected "), "{errors}");
    assert!(errors.contains("all settings stay as they were"), "{errors}");
}

#[test]
fn the_level_of_the_log_changes_unless_the_command_line_has_one() {
    for (arguments, expected) in [(&["start"][..], true), (&["start", "--log-level", "info"][..], false)] {
        let site = Site::new();
        let router = site.start_with(arguments);
        site.set("RINGPOST", "log_level", "error");
        site.set("AUTH", "control_port_admin_password", "another");
        router.signal(Signal::HUP);
        wait_until("the file was read", || has_role(&site, "another", "CPRAdmin"));
        // What says so comes before the level changes; the stop comes after.
        wait_until("the level holds", || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            true
        });
        router.signal(Signal::TERM);
        let (_, _, errors) = router.wait();
        assert!(errors.contains("SIGHUP: [RINGPOST] log_level has changed"), "{errors}");
        assert_eq!(!errors.contains("SIGTERM: stopping"), expected, "{errors}");
    }
}

#[test]
fn every_key_that_changes_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("\n## Change settings of a running router\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    for (_, name) in RELOADED {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
    let named = section.matches("| `").count();
    assert_eq!(named, RELOADED.len());
}
