//! A line between an operator and the API server that can be cut. Nothing comes through then, and neither side is told; what was under way comes through when
//! it is mended, however late.

use std::net::SocketAddr;

use curfew_testbed::Cluster;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A line to the API server.
pub struct Line {
    here: SocketAddr,
    mended: watch::Sender<bool>,
}

impl Line {
    /// One that isn't cut.
    pub async fn to(cluster: &Cluster) -> Self {
        let there = cluster.server().trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Self {
            here: listener.local_addr().unwrap(),
            mended: watch::Sender::new(true),
        };
        let mended = line.mended.subscribe();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(connect(caller, there.clone(), mended.clone()));
            }
        });
        line
    }

    /// Where the API server is by this line.
    pub fn server(&self) -> String {
        format!("https://{}", self.here)
    }

    /// From now on nothing comes through.
    pub fn cut(&self) {
        self.mended.send_replace(false);
    }

    /// Everything comes through again.
    pub fn mend(&self) {
        self.mended.send_replace(true);
    }
}

async fn connect(caller: TcpStream, there: String, mut mended: watch::Receiver<bool>) {
    if mended.wait_for(|mended| *mended).await.is_err() {
        return;
    }
    let Ok(called) = TcpStream::connect(there).await else {
        return;
    };
    let (caller, called) = (caller.into_split(), called.into_split());
    tokio::join!(
        carry(caller.0, called.1, mended.clone()),
        carry(called.0, caller.1, mended)
    );
}

/// Until one side hangs up.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut mended: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if mended.wait_for(|mended| *mended).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
