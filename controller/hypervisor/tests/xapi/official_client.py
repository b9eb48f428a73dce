"""A VM's life by the official client: official_client.py MASTER-URL SLAVE-URL PASSWORD. Ends with an error at the first surprise."""

import http.client
import sys
import time
import xml.parsers.expat

import XenAPI.XenAPI as XenAPI

master, slave, password = sys.argv[1:]


def session(url):
    return XenAPI.Session(url, ignore_ssl=True)


def fails(code, *arguments):
    """The call must be refused with this code and what belongs to it; None is anything."""
    call, *wanted = arguments
    try:
        call()
    except XenAPI.Failure as failure:
        got = failure.details
        assert got[0] == code, got
        assert len(got) >= len(wanted) + 1, got
        assert all(w is None or w == g for w, g in zip(wanted, got[1:])), (got, wanted)
        return got
    raise AssertionError("not refused with " + code)


def ended(api, task, limit=30):
    """Waits for a task by event.from on it, and gives its record."""
    token = ""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        record = api.task.get_record(task)
        if record["status"] not in ("pending", "cancelling"):
            assert record["created"].value == "20240102T03:04:05Z"
            api.task.destroy(task)
            return record
        batch = getattr(api.event, "from")(["task/" + task], token, 5.0)
        token = batch["token"]
    raise AssertionError("the task has not ended")


# Who is no master names it; who has the wrong password is told so.
fails("HOST_IS_SLAVE", lambda: session(slave).login_with_password("root", password, "1.0", "test"), "127.0.0.1")
fails("SESSION_AUTHENTICATION_FAILED", lambda: session(master).login_with_password("root", "x", "1.0", "test"), "root")

x = session(master)
x.login_with_password("root", password, "1.0", "test")
api = x.xenapi
assert x.API_version == "2.21", x.API_version

hosts = {r["name_label"]: h for h, r in api.host.get_all_records().items()}
assert sorted(hosts) == ["xcp1", "xcp2"]
[template] = [v for v in api.VM.get_by_name_label("debian-12") if api.VM.get_is_a_template(v) is True]

# Clone as a task; its result is the new VM in XML-RPC's own clothes.
record = ended(api, getattr(api, "Async").VM.clone(template, "by <the> & client"))
assert record["status"] == "success" and record["progress"] == 1.0, record
vm = record["result"].removeprefix("<value>").removesuffix("</value>")
assert api.VM.get_name_label(vm) == "by <the> & client"

api.VM.add_to_other_config(vm, "tandem-vm", "42")
fails("MAP_DUPLICATE_KEY", lambda: api.VM.add_to_other_config(vm, "tandem-vm", "43"), "VM", "other_config", vm, "tandem-vm")
api.VM.set_memory_limits(vm, str(16 << 20), str(1 << 30), str(256 << 20), str(256 << 20))
assert api.VM.get_memory_static_max(vm) == str(1 << 30), "64-bit integers are strings"
fails("MEMORY_CONSTRAINT_VIOLATION", lambda: api.VM.set_memory_limits(vm, "2", "1", "1", "1"))
api.VM.set_VCPUs_max(vm, "4")
api.VM.set_VCPUs_at_startup(vm, "2")
for vif in api.VM.get_VIFs(vm):
    api.VIF.destroy(vif)
network = api.network.get_by_name_label("production")[0]
interface = {
    "device": "0", "VM": vm, "network": network, "MAC": "02:00:00:00:00:42", "MTU": "1500", "other_config": {},
    "qos_algorithm_type": "", "qos_algorithm_params": {}, "locking_mode": "network_default",
}
vif = api.VIF.create(interface)
assert api.VIF.get_record(vif)["MAC"] == "02:00:00:00:00:42"
fails("DEVICE_ALREADY_EXISTS", lambda: api.VIF.create(interface), "0")
fails("VM_IS_TEMPLATE", lambda: api.VM.start(vm, False, False), vm)
api.VM.provision(vm)

# Events from here on.
batch = getattr(api.event, "from")(["vm"], "", 0.0)
assert vm in {e["ref"] for e in batch["events"]}
token = batch["token"]

api.VM.start_on(vm, hosts["xcp1"], False, False)
assert api.VM.get_power_state(vm) == "Running" and api.VM.get_resident_on(vm) == hosts["xcp1"]
batch = getattr(api.event, "from")(["vm"], token, 5.0)
[last] = [e for e in batch["events"] if e["ref"] == vm]
assert last["class"] == "vm" and last["operation"] == "mod" and last["snapshot"]["power_state"] == "Running", last
token = batch["token"]

fails("VM_BAD_POWER_STATE", lambda: api.VM.start(vm, False, False), vm, "Halted", "Running")
networks = api.VM_guest_metrics.get_networks(api.VM.get_guest_metrics(vm))
assert networks["0/ip"] == "10.9.0.101", networks

# To the other host and back; a full one refuses.
assert set(api.VM.get_possible_hosts(vm)) == set(hosts.values())
api.VM.assert_can_boot_here(vm, hosts["xcp2"])
record = ended(api, getattr(api, "Async").VM.pool_migrate(vm, hosts["xcp2"], {"live": "true"}))
assert record["status"] == "success" and api.VM.get_resident_on(vm) == hosts["xcp2"], record
big = api.VM.clone(template, "big")
api.VM.set_memory_limits(big, "1", str(8 << 30), str(8 << 30), str(8 << 30))
api.VM.provision(big)
api.VM.start_on(big, hosts["xcp1"], False, False)
fails("HOST_NOT_ENOUGH_FREE_MEMORY", lambda: api.VM.pool_migrate(vm, hosts["xcp1"], {"live": "true"}), str(256 << 20), "0")

# A task that hangs is cancelled.
api.VM.hard_shutdown(big)
task = getattr(api, "Async").VM.pool_migrate(vm, hosts["xcp1"], {"live": "true"})
time.sleep(0.2)
fails("OTHER_OPERATION_IN_PROGRESS", lambda: api.VM.clean_shutdown(vm), "VM", vm, "pool_migrate")
api.task.cancel(task)
record = ended(api, task)
assert record["status"] == "cancelled" and record["error_info"][0] == "TASK_CANCELLED", record
assert api.VM.get_resident_on(vm) == hosts["xcp2"]

# All sessions end: the client logs in again by itself. An answer is cut in the middle: it says so.
assert api.VM.get_uuid(vm)
try:
    api.VM.get_name_description(vm)
    raise AssertionError("not cut")
except (http.client.HTTPException, ConnectionError, xml.parsers.expat.ExpatError):
    pass

# The end, with the disks.
fails("VM_BAD_POWER_STATE", lambda: api.VM.destroy(vm), vm, "Halted", "Running")
fails("HANDLE_INVALID", lambda: api.VM.get_record("OpaqueRef:none"), "VM", "OpaqueRef:none")
fails("MESSAGE_METHOD_UNKNOWN", lambda: api.VM.fly(vm))
api.VM.clean_shutdown(vm)
for each in (vm, big):
    for vbd in api.VM.get_VBDs(each):
        api.VDI.destroy(api.VBD.get_VDI(vbd))
    api.VM.destroy(each)
batch = getattr(api.event, "from")(["vm"], token, 5.0)
[gone] = [e for e in batch["events"] if e["ref"] == vm]
assert gone["operation"] == "del", gone
x.logout()
print("all as expected")
