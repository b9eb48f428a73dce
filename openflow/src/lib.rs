//! OpenFlow 1.0 and 1.3: codec, sessions and flow tables, without I/O.
