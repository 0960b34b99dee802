//! One core of a router, and the mesh that joins the cores.
pub mod arena;
pub mod limits;
pub mod mesh;
