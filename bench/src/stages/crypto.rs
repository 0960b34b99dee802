//! What cannot be avoided: the cryptography of a message.
#![allow(clippy::unnecessary_wraps, reason = "all stages are made alike")]

use std::hint::black_box;

use ringpost_protocol::certificate::SigningKey;
use ringpost_protocol::command::{Command, MsgFlags};
use ringpost_protocol::crypto::authorization::{
    AuthPrivateKey, Ed25519Claim, VerifyContext, authenticator_box_key, authenticator_hash,
    make_authenticator, verify, verify_authenticator, verify_ed25519_batch,
};
use ringpost_protocol::crypto::boxes::{BoxKey, reversed, seal_in_place};
use ringpost_protocol::crypto::chain::BlockChain;
use ringpost_protocol::crypto::delivery::{DeliveryHeader, seal_delivery};
use ringpost_protocol::crypto::{BlockCipher, DhPrivateKey};
use ringpost_protocol::encoding::Sink;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::limits::{DELIVERY_ENCRYPTED_BYTES, DELIVERY_PADDED_BYTES};
use ringpost_protocol::tls::Opened;
use ringpost_protocol::tls::provider::provider;
use ringpost_protocol::transmission::{Authorization, Format, Transmission};
use ringpost_shard::proxy::{CLIENT_BOX_BYTES, Forward, open_response};

use super::Step;
use crate::Outcome;
use crate::material::{BODY_BYTES, SESSION_ID, Scope, VERSION, block, router_key, send, transmission, zeros};
use crate::meter::Meter;
use crate::world::{Identity, connect, records};

/// Content that fills a block.
const CONTENT_BYTES: usize = 16_300;

pub fn tls_open() -> Outcome<Step> {
    let (mut client, mut router) = connect(&Identity::new()?, 0, &mut Meter::untimed())?;
    let mut record = records();
    Ok(Box::new(move |meter| {
        let length = client.seal(&[vec![7; CONTENT_BYTES]], &mut record)?;
        match meter.run(|| router.tls.open(&mut record[..length]))? {
            Opened::Data { .. } => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }))
}

pub fn tls_seal() -> Outcome<Step> {
    let (_, mut router) = connect(&Identity::new()?, 0, &mut Meter::untimed())?;
    let (block, mut record) = (block(), records());
    Ok(Box::new(move |meter| {
        meter.run(|| router.tls.seal(black_box(&block[..]), &mut record))?;
        Ok(())
    }))
}

fn ciphers() -> (BlockCipher, BlockCipher) {
    let secret = router_key().agree(&DhPrivateKey::from_bytes([8; 32]).public());
    (BlockCipher::client(&SESSION_ID, &secret), BlockCipher::router(&SESSION_ID, &secret))
}

pub fn block_open() -> Outcome<Step> {
    let (mut client, mut router) = ciphers();
    let mut block = block();
    Ok(Box::new(move |meter| {
        client.seal(&mut block, CONTENT_BYTES)?;
        meter.run(|| router.open(&mut block[..]))?;
        Ok(())
    }))
}

pub fn block_seal() -> Outcome<Step> {
    let (_, mut router) = ciphers();
    let mut block = block();
    Ok(Box::new(move |meter| Ok(meter.run(|| router.seal(&mut block, CONTENT_BYTES))?)))
}

pub fn box_seal() -> Outcome<Step> {
    let key = BoxKey::from_secret(&[1; 32]);
    let mut block = block();
    Ok(Box::new(move |meter| {
        meter.run(|| seal_in_place(&key, black_box(&[2; 24]), &mut block[..]));
        Ok(())
    }))
}

pub fn chain() -> Outcome<Step> {
    let secret = router_key().agree(&DhPrivateKey::from_bytes([8; 32]).public());
    let mut chain = BlockChain::pair(&SESSION_ID, &secret).router_sends;
    Ok(Box::new(move |meter| {
        meter.run(|| black_box(chain.next()));
        Ok(())
    }))
}

pub fn message_seal() -> Outcome<Step> {
    let key = BoxKey::from_secret(&[1; 32]);
    let mut clear = zeros::<DELIVERY_PADDED_BYTES>();
    DeliveryHeader { timestamp_secs: 1, flags: MsgFlags::default() }.frame(&mut clear, BODY_BYTES)?;
    let mut out = zeros::<DELIVERY_ENCRYPTED_BYTES>();
    Ok(Box::new(move |meter| {
        meter.run(|| seal_delivery(&key, black_box(&[2; 24]), &clear, &mut out));
        Ok(())
    }))
}

/// A SEND as the apps authorize it.
fn a_send() -> Outcome<(AuthPrivateKey, Vec<u8>)> {
    let key = AuthPrivateKey::x25519([2; 32]);
    let router = router_key().public();
    let scope = Scope { session_id: &SESSION_ID, router_key: &router };
    let bytes = send(scope, &key, &[3; 24], &[4; 24])?;
    Ok((key, bytes))
}

fn parse(bytes: &[u8]) -> Outcome<Transmission<'_>> {
    Transmission::parse(bytes, Format::of_session(VERSION)).map_err(|bad| format!("{:?}", bad.error).into())
}

pub fn message_hash() -> Outcome<Step> {
    let (_, bytes) = a_send()?;
    Ok(Box::new(move |meter| {
        let parsed = parse(&bytes)?;
        let parts = parsed.for_authorization_parts(&SESSION_ID);
        meter.run(|| black_box(authenticator_hash(black_box(&parts))));
        Ok(())
    }))
}

pub fn authenticator() -> Outcome<Step> {
    let public = AuthPrivateKey::x25519([2; 32]).public();
    let (key, _) = authenticator_box_key(&router_key(), Some(&public));
    let hash = [9; 64];
    let made = make_authenticator(&key, &[3; 24], &hash);
    Ok(Box::new(move |meter| {
        if meter.run(|| verify_authenticator(&key, &[3; 24], black_box(&hash), &made)) {
            Ok(())
        } else {
            Err("the authenticator does not hold".into())
        }
    }))
}

pub fn agree() -> Outcome<Step> {
    let public = AuthPrivateKey::x25519([2; 32]).public();
    let router = router_key();
    Ok(Box::new(move |meter| {
        meter.run(|| black_box(authenticator_box_key(&router, black_box(Some(&public)))));
        Ok(())
    }))
}

pub fn tls_exchange() -> Outcome<Step> {
    let provider = provider();
    let group = *provider.kx_groups.first().ok_or("no groups")?;
    let peer = group.start()?.pub_key().to_vec();
    Ok(Box::new(move |meter| {
        let secret = meter.run(|| group.start()?.complete(&peer))?;
        black_box(secret.secret_bytes());
        Ok(())
    }))
}

pub fn make_key() -> Outcome<Step> {
    Ok(Box::new(move |meter| {
        meter.run(|| black_box(DhPrivateKey::from_bytes(black_box([8; 32])).public()));
        Ok(())
    }))
}

pub fn ed25519_sign() -> Outcome<Step> {
    let key = SigningKey::ed25519(&[7; 32]);
    Ok(Box::new(move |meter| {
        meter.run(|| black_box(key.sign(black_box(&[5; 130]))));
        Ok(())
    }))
}

/// ACKs of several queues.
fn acks(count: u8) -> Outcome<Vec<(AuthPublicKey, Vec<u8>)>> {
    let router = router_key().public();
    let scope = Scope { session_id: &SESSION_ID, router_key: &router };
    let ack = |number: u8| {
        let key = AuthPrivateKey::ed25519(&[number; 32]);
        let command = Command::Ack { msg_id: &[6; 24] };
        let bytes = transmission(scope, Some(&key), &[number; 24], &[number; 24], &command)?;
        Ok((key.public(), bytes))
    };
    (0..count).map(ack).collect()
}

pub fn ed25519_verify() -> Outcome<Step> {
    // One signature may take a little longer than another.
    let acks = acks(16)?;
    let mut turn = 0;
    Ok(Box::new(move |meter| {
        let (key, bytes) = &acks[turn % acks.len()];
        turn += 1;
        let parsed = parse(bytes)?;
        let parts = parsed.for_authorization_parts(&SESSION_ID);
        let context = VerifyContext { session_key: None, corr_id: parsed.corr_id };
        if meter.run(|| verify(parsed.authorization, &parts, Some(key), context)) {
            Ok(())
        } else {
            Err("the signature does not hold".into())
        }
    }))
}

pub fn ed25519_batch() -> Outcome<Step> {
    let acks = acks(64)?;
    Ok(Box::new(move |meter| {
        let parsed: Vec<_> = acks.iter().map(|(_, bytes)| parse(bytes)).collect::<Outcome<_>>()?;
        let parts: Vec<_> = parsed.iter().map(|parsed| parsed.for_authorization_parts(&SESSION_ID)).collect();
        let mut claims = Vec::new();
        for (((key, _), parsed), parts) in acks.iter().zip(&parsed).zip(&parts) {
            let (AuthPublicKey::Ed25519(_), Authorization::Ed25519(signature)) = (key, parsed.authorization)
            else {
                return Err("not Ed25519".into());
            };
            claims.push(Ed25519Claim { signature, authorized: parts, key: Some(key) });
        }
        let holds = meter.run(|| verify_ed25519_batch(&claims));
        if holds.iter().all(|holds| *holds) { Ok(()) } else { Err("a signature does not hold".into()) }
    }))
}

pub fn forward() -> Outcome<Step> {
    let key = BoxKey::from_secret(&[1; 32]);
    let client_box = vec![7; CLIENT_BOX_BYTES];
    let nonce = [3; 24];
    Ok(Box::new(move |meter| {
        let mut rres = vec![0; 16];
        rres.put_short(&[5; 24]);
        rres.put(&client_box);
        seal_in_place(&key, &reversed(nonce), &mut rres);
        let forward = Forward {
            corr_id: &[5; 24],
            version: VERSION,
            key: DhPrivateKey::from_bytes([8; 32]).public(),
            transmission: &client_box,
        };
        let opened = meter.run(|| {
            let mut out = Vec::new();
            forward.seal(&key, &nonce, &mut out).map_err(|_| "too large")?;
            black_box(out);
            open_response(&key, &nonce, &mut rres).map_err(|error| format!("{error:?}"))
        })?;
        black_box(opened);
        Ok(())
    }))
}
