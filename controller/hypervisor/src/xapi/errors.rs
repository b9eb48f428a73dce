//! Translates XAPI's errors into [`VmmError`]: what was tried, why it failed, and what to do.

use super::rpc::Failure;
use super::rpc::http::HttpError;
use super::session::CallError;
use super::task::TaskError;
use crate::VmmError;
use tandem_model::{Bytes, VmId};

/// The context of an error.
#[derive(Debug, Clone)]
pub struct Deed<'a> {
    /// The server's name, or the pool's.
    pub host: &'a str,
    /// The login user.
    pub user: &'a str,
    /// The VM, if there is one.
    pub vm: Option<VmId>,
    /// What was tried, after "while".
    pub what: String,
}

impl Deed<'_> {
    /// The error of a call.
    pub fn failed(&self, error: CallError) -> VmmError {
        let host = self.host.to_owned();
        let what = self.what.clone();
        match error {
            CallError::Refused(failure) => self.refused(&failure),
            CallError::Malformed { cause: source, .. } => VmmError::BadAnswer { host, what, why: source.to_string() },
            CallError::NoAnswer { cause: HttpError::TimedOut(after), .. } => {
                VmmError::TimeOut { host, what, after }
            }
            CallError::NoAnswer { cause: HttpError::UnknownCertificate(why), .. } => VmmError::WrongCredentials {
                host,
                user: self.user.to_owned(),
                why: why.to_string(),
                todo: "if the host was installed anew, put its fingerprint into the hypervisors file; otherwise somebody is in between"
                    .to_owned(),
            },
            CallError::NoAnswer { cause: HttpError::Status(status), route } => VmmError::BadAnswer {
                host,
                what,
                why: format!("{route} answers with HTTP status {status}: is that a XAPI host?"),
            },
            CallError::NoAnswer { cause: HttpError::TooLong, .. } => {
                VmmError::BadAnswer { host, what, why: HttpError::TooLong.to_string() }
            }
            error @ (CallError::NoAnswer { .. } | CallError::NoMaster(_) | CallError::Tunnel(_)) => {
                VmmError::HostUnreachable { host, what, why: error.to_string() }
            }
        }
    }

    /// The error of a task.
    pub fn ended(&self, error: TaskError) -> VmmError {
        let (host, what) = (self.host.to_owned(), self.what.clone());
        match error {
            TaskError::Call(error) | TaskError::InDoubt(error) => self.failed(error),
            TaskError::Cancelled => VmmError::Cancelled,
            TaskError::TimedOut(after) | TaskError::Hung(after) => VmmError::TimeOut { host, what, after },
        }
    }

    /// The error of XAPI's refusal. Codes and arguments: the data model's error list.
    pub fn refused(&self, f: &Failure) -> VmmError {
        let host = self.host.to_owned();
        let what = self.what.clone();
        let refused = |why: String| VmmError::Refused { what: format!("{host}: {what}"), why };
        match f.code.as_str() {
            "SESSION_AUTHENTICATION_FAILED" | "RBAC_PERMISSION_DENIED" | "HOST_IS_SLAVE" | "SESSION_INVALID" => {
                VmmError::WrongCredentials {
                    host,
                    user: self.user.to_owned(),
                    why: f.to_string(),
                    todo: "check `user` and the password file of this pool, and that the user has the role pool-operator or more"
                        .to_owned(),
                }
            }
            "HOST_NOT_ENOUGH_FREE_MEMORY" => match (bytes(f.arg(0)), bytes(f.arg(1)), self.vm) {
                (Some(needed), Some(free), Some(vm)) => VmmError::NoMemory { host, vm, needed, free },
                _ => refused(format!("not enough memory is free there ({f})")),
            },
            "HANDLE_INVALID" | "UUID_INVALID" => match (self.vm, f.arg(0)) {
                (Some(vm), "VM" | "") => VmmError::GoneBehindOurBack { host, vm },
                _ => VmmError::Failed {
                    host,
                    what,
                    why: format!("the {} that was meant is gone: somebody has removed it meanwhile", f.arg(0)),
                },
            },
            "VM_BAD_POWER_STATE" => refused(format!(
                "the VM is {} and would have to be {}: somebody has stopped or started it meanwhile",
                f.arg(2).to_lowercase(),
                f.arg(1).to_lowercase()
            )),
            "HOST_OFFLINE" | "HOST_NOT_LIVE" => {
                refused("the pool says that the host is off; switch it on, or `tandem evacuate` it".to_owned())
            }
            "HOST_DISABLED" | "HOST_DISABLED_UNTIL_REBOOT" | "HOST_IN_EMERGENCY_MODE" => {
                refused(format!("the host takes no VMs now ({}); `xe host-enable` when its maintenance is over", f.code))
            }
            "NO_HOSTS_AVAILABLE" => refused(
                "no host of the pool could run it now: memory, disks or networks are missing on each; see `xe vm-assert-can-be-recovered` and the pool's hosts"
                    .to_owned(),
            ),
            "VM_REQUIRES_SR" | "HOST_CANNOT_SEE_SR" | "VM_REQUIRES_VDI" | "SR_NOT_ATTACHED" => refused(format!(
                "the host cannot reach a disk of the VM ({f}): put the template on shared storage, or attach the storage there"
            )),
            "VM_REQUIRES_NETWORK" | "VM_REQUIRES_NET" | "HOST_CANNOT_ATTACH_NETWORK" => {
                refused(format!("the host lacks a network of the VM ({f}); give it an interface on that network"))
            }
            "VM_MISSING_PV_DRIVERS" | "VM_LACKS_FEATURE" | "VM_LACKS_FEATURE_SUSPEND" | "VM_OLD_PV_DRIVERS"
            | "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT" => {
                refused(format!("the guest lacks what this needs ({}); install the guest tools in its template", f.code))
            }
            "VM_INCOMPATIBLE_WITH_THIS_HOST" | "VM_HOST_INCOMPATIBLE_VERSION" | "VM_HOST_INCOMPATIBLE_VERSION_MIGRATE" => {
                refused(format!("CPU or version of the host is too old for the VM ({f}); move it cold, or elsewhere"))
            }
            "SR_FULL" | "SR_BACKEND_FAILURE_44" => refused(format!("the storage is full ({f})")),
            "OTHER_OPERATION_IN_PROGRESS" | "OPERATION_NOT_ALLOWED" => {
                refused(format!("something else is being done with it ({f}); try again when that has ended"))
            }
            "LICENCE_RESTRICTION" | "FEATURE_RESTRICTED" | "LICENSE_RESTRICTION" => {
                refused(format!("the pool's licence does not include it ({f})"))
            }
            "MESSAGE_METHOD_UNKNOWN" | "MESSAGE_PARAMETER_COUNT_MISMATCH" => {
                refused(format!("this version of XAPI cannot do it ({f})"))
            }
            "TASK_CANCELLED" => VmmError::Cancelled,
            // VM_MIGRATE_FAILED [VM, from, to, why]: the last argument is the useful one.
            "VM_MIGRATE_FAILED" => VmmError::Failed { host, what, why: format!("{} ({})", f.arg(3), f.code) },
            _ => VmmError::Failed { host, what, why: f.to_string() },
        }
    }
}

fn bytes(text: &str) -> Option<Bytes> {
    text.trim().parse().ok().map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str, args: &[&str]) -> VmmError {
        let deed = Deed { host: "srv1", user: "root", vm: Some(VmId(7)), what: "starting vm7".to_owned() };
        deed.refused(&Failure { code: code.to_owned(), args: args.iter().map(|a| (*a).to_owned()).collect() })
    }

    #[test]
    fn codes_become_what_helps() {
        let full = of("HOST_NOT_ENOUGH_FREE_MEMORY", &["1073741824", "1024"]);
        let wanted = VmmError::NoMemory {
            host: "srv1".into(),
            vm: VmId(7),
            needed: Bytes(1 << 30),
            free: Bytes(1024),
        };
        assert_eq!(full, wanted);
        assert!(matches!(of("SESSION_AUTHENTICATION_FAILED", &["root"]), VmmError::WrongCredentials { .. }));
        let gone = VmmError::GoneBehindOurBack { host: "srv1".into(), vm: VmId(7) };
        assert_eq!(of("HANDLE_INVALID", &["VM", "OpaqueRef:1"]), gone);
        assert!(matches!(of("HANDLE_INVALID", &["network", "OpaqueRef:1"]), VmmError::Failed { .. }));
        let state = of("VM_BAD_POWER_STATE", &["OpaqueRef:1", "Running", "Halted"]).to_string();
        assert!(state.contains("is halted and would have to be running"), "{state}");
        let moved = of("VM_MIGRATE_FAILED", &["vm", "a", "b", "xenguest exited"]).to_string();
        assert!(moved.contains("xenguest exited"), "{moved}");
        assert_eq!(of("TASK_CANCELLED", &["OpaqueRef:t"]), VmmError::Cancelled);
        // Malformed arguments from a host still give an error with a message.
        assert!(matches!(of("HOST_NOT_ENOUGH_FREE_MEMORY", &["much", "little"]), VmmError::Refused { .. }));
        assert!(of("SOMETHING_NEW", &["a", "b"]).to_string().contains("SOMETHING_NEW [a, b]"));
    }
}
