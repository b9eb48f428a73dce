//! The controller: OpenFlow server, HTTP API, store, and the operator's command line.
