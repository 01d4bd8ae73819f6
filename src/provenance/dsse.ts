import { createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import type { SigningKey } from './key.ts';

/** Dead Simple Signing Envelope, https://github.com/secure-systems-lab/dsse (v1.0). Binary fields are base64. */
export interface Envelope {
  readonly payload: string;
  readonly payloadType: string;
  readonly signatures: readonly { readonly sig: string; readonly keyid: string }[];
}

export type EnvelopeResult =
  { readonly ok: true; readonly payload: Buffer } | { readonly ok: false; readonly reason: string };

/** Pre-authentication encoding: what is signed. Lengths are in bytes. */
export function encodeForSigning(payloadType: string, payload: Uint8Array): Buffer {
  const type = Buffer.from(payloadType, 'utf8');
  return Buffer.concat([Buffer.from(`DSSEv1 ${type.length} `), type, Buffer.from(` ${payload.length} `), payload]);
}

/** Signs with ECDSA P-256 and SHA-256. The key id is empty: verifiers that match ids find no signature otherwise. */
export function signEnvelope(payloadType: string, payload: Uint8Array, key: SigningKey): Envelope {
  const sig = sign('sha256', encodeForSigning(payloadType, payload), key.privateKey);
  return {
    payload: Buffer.from(payload).toString('base64'),
    payloadType,
    signatures: [{ keyid: '', sig: sig.toString('base64') }],
  };
}

/** Verifies an envelope that has exactly one signature. Never throws: whatever is wrong is the reason. */
export function verifyEnvelope(envelope: unknown, publicKeyPem: string): EnvelopeResult {
  const no = (reason: string): EnvelopeResult => ({ ok: false, reason });
  if (!isEnvelope(envelope)) return no('it is not a DSSE envelope');
  const [signature] = envelope.signatures;
  if (signature === undefined || envelope.signatures.length !== 1)
    return no(`the envelope has ${envelope.signatures.length} signatures, not one`);
  const payload = decodeStrictly(envelope.payload);
  const sig = decodeStrictly(signature.sig);
  if (payload === null || sig === null) return no('payload or signature is not canonical base64');
  let key: KeyObject;
  try {
    key = createPublicKey(publicKeyPem);
  } catch {
    return no('the public key is not PEM');
  }
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    return no('the public key is not ECDSA P-256');
  const holds = verify('sha256', encodeForSigning(envelope.payloadType, payload), key, sig);
  return holds ? { ok: true, payload } : no('the signature does not belong to this payload and key');
}

function isEnvelope(value: unknown): value is Envelope {
  if (typeof value !== 'object' || value === null) return false;
  const { payload, payloadType, signatures } = value as Record<string, unknown>;
  return (
    typeof payload === 'string' &&
    typeof payloadType === 'string' &&
    Array.isArray(signatures) &&
    signatures.every(
      (item: unknown) =>
        typeof item === 'object' && item !== null && typeof (item as { sig?: unknown }).sig === 'string',
    )
  );
}

/** Several base64 texts decode to the same bytes; only the one that encoding gives back is taken. */
function decodeStrictly(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : null;
}
