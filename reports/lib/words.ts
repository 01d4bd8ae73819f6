import type { CaseReport, Layer, ReportInput, RuleResult, VerdictKind } from '../../src/contracts/index.ts';

export interface VerdictWords {
  /** Class name and icon name. */
  readonly tone: 'promote' | 'reject' | 'inconclusive' | 'invalid' | 'none';
  readonly word: string;
  readonly meaning: string;
}

const VERDICTS: Readonly<Record<VerdictKind, VerdictWords>> = {
  PROMOTE: { tone: 'promote', word: 'PROMOTE', meaning: 'May be shipped under this policy.' },
  REJECT: { tone: 'reject', word: 'REJECT', meaning: 'Must not be shipped under this policy.' },
  INCONCLUSIVE: {
    tone: 'inconclusive',
    word: 'INCONCLUSIVE',
    meaning: 'Not shown to be better, not shown to be worse. It is not shipped.',
  },
  INVALID: { tone: 'invalid', word: 'INVALID', meaning: 'The evidence does not allow a verdict. It is not shipped.' },
};

export function verdictWords(input: ReportInput): VerdictWords {
  if (input.verdict !== null) return VERDICTS[input.verdict.kind];
  return { tone: 'none', word: 'NO VERDICT', meaning: 'Measured for comparison; no gate was asked.' };
}

/** What an outcome means in words, by the role of the rule. */
export function outcomeWord(rule: RuleResult): string {
  const words: Readonly<Record<RuleResult['role'], readonly [pass: string, fail: string]>> = {
    primary: ['improved', 'not improved'],
    critical: ['held', 'broken'],
    watch: ['no harm shown', 'harm shown'],
    validity: ['valid', 'not valid'],
  };
  if (rule.outcome === 'unclear') return 'not shown';
  if (rule.outcome === 'invalid') return 'not valid';
  return words[rule.role][rule.outcome === 'pass' ? 0 : 1];
}

export const ROLE_WORDS: Readonly<Record<RuleResult['role'], string>> = {
  primary: 'must improve',
  critical: 'must be shown not to lose more than the margin',
  watch: 'blocks only on harm that is shown',
  validity: 'the evidence must be whole',
};

export const ROLE_SHORT: Readonly<Record<RuleResult['role'], string>> = {
  primary: 'Primary',
  critical: 'Critical',
  watch: 'Watch list',
  validity: 'Validity',
};

export const LAYER_WORDS: Readonly<Record<Layer, string>> = {
  A: 'Task: does it do the job?',
  B: 'General ability: what did it keep?',
  C: 'Preference: which text reads better?',
  D: 'Agent: does it act rightly?',
  E: 'Safety: does it resist attacks?',
};

export const CHANGE_WORDS: Readonly<Record<CaseReport['change'], string>> = {
  regressed: 'Regressed',
  failing: 'Failing before and now',
  improved: 'Improved',
  passing: 'Passing',
};

export const CHANGE_ORDER: readonly CaseReport['change'][] = ['regressed', 'failing', 'improved', 'passing'];

/** Titles of OWASP Top 10 for LLM applications, 2025. */
const OWASP: Readonly<Record<string, string>> = {
  LLM01: 'Prompt injection',
  LLM02: 'Sensitive information disclosure',
  LLM03: 'Supply chain',
  LLM04: 'Data and model poisoning',
  LLM05: 'Improper output handling',
  LLM06: 'Excessive agency',
  LLM07: 'System prompt leakage',
  LLM08: 'Vector and embedding weaknesses',
  LLM09: 'Misinformation',
  LLM10: 'Unbounded consumption',
};

/** The title that belongs to a bare item number (`LLM01`, `LLM01:2025`), or null. */
export function owaspTitle(item: string): string | null {
  return OWASP[/^(LLM\d\d)(?::2025)?$/.exec(item)?.[1] ?? ''] ?? null;
}
