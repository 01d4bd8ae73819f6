import type { ReportInput } from '../../../src/contracts/index.ts';

/** Digests, and the command that checks them. */
export function provenanceView(input: ReportInput): object {
  const { verdict } = input;
  const rows = [
    { name: 'This checkpoint', digest: input.checkpoint.digest },
    ...(verdict === null ? [] : [{ name: 'Policy', digest: verdict.policyDigest }]),
    ...(verdict?.baseline == null
      ? []
      : [{ name: `Baseline (${verdict.baseline.checkpoint})`, digest: verdict.baseline.digest }]),
  ];
  const seen = new Set(rows.map((row) => row.digest));
  return {
    rows: [...rows, ...input.provenance.filter((row) => !seen.has(row.digest))].map((row) => ({
      name: row.name,
      digest: row.digest,
    })),
    command: `cupel verify ${shellWord(input.checkpoint.id)}`,
    runs: verdict === null ? [] : [...(verdict.baseline?.runs ?? []), ...verdict.candidate.runs],
  };
}

function shellWord(text: string): string {
  return /^[A-Za-z0-9._/@:-]+$/.test(text) && !text.startsWith('-') ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
