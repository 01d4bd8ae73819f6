import type { TrainRecipe } from '../plugins/recipe.ts';
import type { SweepMember } from './sweep-member.ts';
import type { ComparedCandidate } from './sweep-statistics.ts';

/** What replaces the recipe as written: only what is shown to be better. */
export function choose(
  compared: readonly ComparedCandidate[],
  written: string,
  reference: string | null,
  direction: 'higher' | 'lower',
): { readonly candidate: string; readonly reason: string } {
  const sign = direction === 'higher' ? 1 : -1;
  const better = compared
    .filter(({ decision, name }) => decision === 'better' && name !== written)
    .sort((a, b) => sign * ((b.mean ?? 0) - (a.mean ?? 0)));
  const [best] = better;
  if (best !== undefined) {
    const rivals =
      better.length === 1
        ? ''
        : ` Of ${better.length} that are, it has the best mean; between them nothing was tested.`;
    return { candidate: best.name, reason: `"${best.name}" is shown to be better than "${written}".${rivals}` };
  }
  const own = compared.find(({ name }) => name === written);
  const reason =
    own === undefined || own.decision === 'reference'
      ? `No candidate is shown to be better than "${written}", which stays.`
      : own.decision === 'nothing to compare with'
        ? 'There is one candidate and nothing to compare it with.'
        : `There is one candidate; beside "${reference ?? ''}": ${own.decision}.`;
  return { candidate: written, reason };
}

/** The seed whose value is nearest to the mean of its candidate; of equal ones the first. */
export function typicalMember(
  members: readonly SweepMember[],
  compared: readonly ComparedCandidate[],
  name: string,
): SweepMember {
  const row = compared.find((one) => one.name === name);
  const distance = (index: number): number => {
    const value = row?.values[index] ?? null;
    return value === null || row?.mean === null || row === undefined ? Infinity : Math.abs(value - row.mean);
  };
  const order = members.map((_, index) => index).sort((a, b) => distance(a) - distance(b) || a - b);
  return members[order[0] ?? 0] as SweepMember;
}

/** What has to be known beside the figures. */
export function notesOf(recipe: TrainRecipe, members: readonly (readonly SweepMember[])[], seeds: number): string[] {
  const weights = members.map((group) => new Set(group.map(({ run }) => run.identity.checkpoint.digest)).size);
  return [
    ...(seeds > 1 && weights.every((count) => count === 1)
      ? ['All seeds gave the same weights: with this order and tuning nothing depends on the seed.']
      : []),
    ...(seeds === 1 ? ['With one seed a difference may be its luck; ask for more with --seeds 3.'] : []),
    ...(recipe.validation === null
      ? []
      : [
          'Checkpoints and candidates were chosen on these cases: values here are optimistic. The gate decides on others.',
        ]),
  ];
}
