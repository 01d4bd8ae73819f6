import { parseDocument } from 'yaml';
import type { GuardRule, MetricDefinition, Policy, PrimaryRule, WatchRule } from '../contracts/index.ts';
import { checkAgainst, compileSchema, kitErrors, nearest, readText } from '../kit/index.ts';
import { gateErrors } from './errors.ts';
import { policySchema } from './policy-schema.ts';

interface PolicyFile {
  readonly version: 1;
  readonly alpha?: number;
  readonly cluster?: 'cluster' | 'case';
  readonly primary: Pick<PrimaryRule, 'metric'> & Partial<PrimaryRule>;
  readonly guards?: { readonly critical?: readonly GuardRule[]; readonly watch?: readonly WatchRule[] };
  readonly missing?: { readonly max: number };
  readonly bootstrap?: { readonly resamples?: number; readonly seed?: number };
}

/**
 * Reads a policy from YAML or JSON. Left-out fields take: alpha 0.05, cluster `cluster`, minEffect 0, no guards,
 * missing.max 0.02, 2,000 resamples, seed 1; the digest is over the policy with these filled in.
 * @throws CUPEL_FILE_MISSING, CUPEL_FILE_UNREADABLE, and what `parsePolicy` throws.
 */
export async function loadPolicy(file: string): Promise<Policy> {
  return parsePolicy(await readText(file), file);
}

/**
 * Parses policy text; `file` is for messages only.
 * @throws CUPEL_JSON_INVALID with file:line, CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID, CUPEL_GATE_POLICY_REPEATS,
 * CUPEL_GATE_RESAMPLES_FEW
 */
export function parsePolicy(text: string, file: string): Policy {
  const written = checkAgainst<PolicyFile>(compileSchema(policySchema, 'policy schema'), parseYaml(text, file), file);
  const policy: Policy = {
    version: 1,
    alpha: written.alpha ?? 0.05,
    cluster: written.cluster ?? 'cluster',
    primary: { metric: written.primary.metric, minEffect: written.primary.minEffect ?? 0 },
    guards: { critical: written.guards?.critical ?? [], watch: written.guards?.watch ?? [] },
    missing: { max: written.missing?.max ?? 0.02 },
    bootstrap: { resamples: written.bootstrap?.resamples ?? 2000, seed: written.bootstrap?.seed ?? 1 },
  };
  const seen = new Map<string, string>();
  for (const [place, metric] of policyMetrics(policy)) {
    const before = seen.get(metric);
    if (before !== undefined) {
      throw gateErrors.CUPEL_GATE_POLICY_REPEATS({
        message: `"${metric}" stands in ${before} and in ${place}`,
        where: `${file}: ${place}.metric`,
      });
    }
    seen.set(metric, place);
  }
  const { resamples } = policy.bootstrap;
  const smallest = seen.size / (resamples + 1);
  if (smallest > policy.alpha / 4) {
    throw gateErrors.CUPEL_GATE_RESAMPLES_FEW({
      message: `with ${resamples} resamples and ${seen.size} metrics no corrected p can fall below ${smallest.toFixed(3)}, too near to alpha ${policy.alpha}`,
      where: `${file}: bootstrap.resamples`,
      remedy: `Set bootstrap.resamples to at least ${Math.ceil((4 * seen.size) / policy.alpha)}.`,
    });
  }
  return policy;
}

/** Places and metric paths of all rules, in the order of the policy. */
export function policyMetrics(policy: Policy): readonly (readonly [place: string, metric: string])[] {
  return [
    ['primary', policy.primary.metric],
    ...policy.guards.critical.map((rule, i) => [`guards.critical.${i}`, rule.metric] as const),
    ...policy.guards.watch.map((rule, i) => [`guards.watch.${i}`, rule.metric] as const),
  ];
}

/**
 * Holds a policy against the suites that will be run, before anything is computed.
 * @throws CUPEL_GATE_METRIC_UNKNOWN with the place in the policy and the nearest known metric.
 */
export function checkPolicyMetrics(
  policy: Policy,
  suites: readonly { readonly id: string; readonly metrics: readonly MetricDefinition[] }[],
  file: string,
): void {
  const known = suites.flatMap((suite) => suite.metrics.map((metric) => `${suite.id}/${metric.name}`));
  for (const [place, metric] of policyMetrics(policy)) {
    if (known.includes(metric)) continue;
    const near = nearest(metric, known);
    throw gateErrors.CUPEL_GATE_METRIC_UNKNOWN({
      message: `no suite defines the metric "${metric}"${near === null ? '' : `; did you mean "${near}"?`}`,
      where: `${file}: ${place}.metric`,
      remedy: near === null ? `Known metrics: ${known.join(', ')}.` : `Write "${near}".`,
    });
  }
}

function parseYaml(text: string, file: string): unknown {
  const document = parseDocument(text, { uniqueKeys: true });
  const [error] = document.errors;
  if (error) {
    const line = error.linePos?.[0].line;
    throw kitErrors.CUPEL_JSON_INVALID({
      message: `not valid YAML: ${error.message.split('\n')[0]}`,
      where: line === undefined ? file : `${file}:${line}`,
      cause: error,
    });
  }
  try {
    return document.toJS({ maxAliasCount: 20 }) as unknown;
  } catch (cause) {
    throw kitErrors.CUPEL_JSON_INVALID({ message: `not valid YAML: ${(cause as Error).message}`, where: file, cause });
  }
}
