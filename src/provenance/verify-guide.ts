import { keyNotice } from './key.ts';

/** The text of `VERIFY.md`: how to check the evidence with this program, and with others. */
export function verifyGuide(location: string): string {
  return `# Checking this evidence

${keyNotice}

The whole folder, the checkpoint and the chain from dataset to verdict, offline:

    cupel verify .

The files of the model, with the tool of the OpenSSF model signing project:

    model_signing verify key ${location} --signature model.sig --public_key public-key.pem

The statement itself, with cosign 2.6 and an empty trusted root (\`trusted-root.json\` holds
\`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[],"certificateAuthorities":[],"ctlogs":[],"timestampAuthorities":[]}\`):

    cosign verify-blob-attestation --new-bundle-format --trusted-root trusted-root.json --insecure-ignore-tlog=true \\
      --key public-key.pem --bundle gate.sigstore.json --type urn:cupel:gate:v1 ${location}/config.json
`;
}
