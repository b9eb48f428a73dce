//! Contracts between the controller, its agents and a world's hypervisor service.
