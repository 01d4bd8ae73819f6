import { canonicalJson, sha256 } from '../kit/index.ts';
import { signEnvelope, verifyEnvelope, type Envelope } from './dsse.ts';
import type { SigningKey } from './key.ts';

/** In-toto attestation statement v1, https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md */
export interface Statement<P = unknown> {
  readonly _type: 'https://in-toto.io/Statement/v1';
  readonly subject: readonly Subject[];
  readonly predicateType: string;
  readonly predicate: P;
}

export interface Subject {
  readonly name: string;
  readonly digest: { readonly sha256: string };
}

/** Sigstore bundle v0.3 with a public key in place of a certificate, and no transparency log. */
export interface Bundle {
  readonly mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json';
  readonly verificationMaterial: { readonly publicKey: { readonly hint: string }; readonly tlogEntries: readonly [] };
  readonly dsseEnvelope: Envelope;
}

export type BundleResult =
  { readonly ok: true; readonly statement: Statement } | { readonly ok: false; readonly reason: string };

const statementType = 'https://in-toto.io/Statement/v1';
const payloadType = 'application/vnd.in-toto+json';
const mediaType = 'application/vnd.dev.sigstore.bundle.v0.3+json';

export function makeStatement<P>(predicateType: string, subject: readonly Subject[], predicate: P): Statement<P> {
  return { _type: statementType, subject, predicateType, predicate };
}

/** Signs the canonical JSON of a statement. All but the signature is the same at each call. */
export function signStatement(statement: Statement, key: SigningKey): Bundle {
  return {
    mediaType,
    verificationMaterial: { publicKey: { hint: keyHint(key.publicKeyPem) }, tlogEntries: [] },
    dsseEnvelope: signEnvelope(payloadType, Buffer.from(canonicalJson(statement)), key),
  };
}

/** The hint that names a key in a bundle: hex sha256 of the bytes of its PEM file. */
export function keyHint(publicKeyPem: string): string {
  return sha256(publicKeyPem);
}

/** Verifies the text of a bundle. Never throws: whatever is wrong is the reason. */
export function verifyBundle(text: string, publicKeyPem: string): BundleResult {
  const no = (reason: string): BundleResult => ({ ok: false, reason });
  let bundle: Partial<Bundle> | null;
  try {
    bundle = JSON.parse(text) as Partial<Bundle> | null;
  } catch {
    return no('the bundle is not JSON');
  }
  if (bundle?.mediaType !== mediaType) return no(`the bundle is not of type ${mediaType}`);
  const hint = bundle.verificationMaterial?.publicKey?.hint;
  if (hint !== keyHint(publicKeyPem)) return no('the bundle names another key');
  const result = verifyEnvelope(bundle.dsseEnvelope, publicKeyPem);
  if (!result.ok) return no(result.reason);
  if (bundle.dsseEnvelope?.payloadType !== payloadType) return no(`the payload is not of type ${payloadType}`);
  try {
    const statement = JSON.parse(result.payload.toString('utf8')) as unknown;
    return isStatement(statement) ? { ok: true, statement } : no('the payload is not an in-toto statement');
  } catch {
    return no('the payload is not JSON');
  }
}

function isStatement(value: unknown): value is Statement {
  if (typeof value !== 'object' || value === null) return false;
  const { _type, subject, predicateType, predicate } = value as Record<string, unknown>;
  return (
    _type === statementType &&
    typeof predicateType === 'string' &&
    typeof predicate === 'object' &&
    predicate !== null &&
    Array.isArray(subject) &&
    subject.every((item: unknown) => {
      const { name, digest } = (item ?? {}) as { name?: unknown; digest?: { sha256?: unknown } };
      return typeof name === 'string' && typeof digest?.sha256 === 'string';
    })
  );
}
