//! actix-web's own plain-text handler: what an HTTP answer costs when there is nothing to answer.

use std::net::SocketAddr;

use actix_web::{App, HttpServer, web};
use anyhow::{Context, Result};

use crate::process::{Process, Programs};

/// Runs it on one worker; prints its address.
pub(crate) fn run() -> Result<()> {
    actix_rt::System::new().block_on(async {
        let server = HttpServer::new(|| App::new().route("/plaintext", web::get().to(async || "Hello, World!")))
            .workers(1)
            .bind(("127.0.0.1", 0))?;
        println!("{}", server.addrs().first().context("an address")?);
        Ok(server.run().await?)
    })
}

/// It, in a process of its own.
pub(crate) struct PlainHttp {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl PlainHttp {
    /// Starts it.
    pub(crate) fn start(programs: &Programs) -> Result<Self> {
        let mut process = programs.own("plain-http", &["plain-http"])?;
        Ok(Self { addr: process.line()?.parse()?, process })
    }
}
