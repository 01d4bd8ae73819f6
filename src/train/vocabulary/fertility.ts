import type { Model } from '../../contracts/index.ts';

/** Tokens a word that is cut at white space: what a text costs. */
export interface Fertility {
  readonly tokens: number;
  readonly words: number;
}

export function fertilityOf(documents: readonly string[], model: Pick<Model, 'tokenize'>): Fertility {
  let [tokens, words] = [0, 0];
  for (const document of documents) {
    tokens += model.tokenize(document).length;
    words += document.match(/\S+/g)?.length ?? 0;
  }
  return { tokens, words };
}

/** With fewer documents none can be spared. */
const fewest = 10;

/** Every tenth document is kept apart, to measure on what was not chosen from. Null: there are too few. */
export function splitCorpus(documents: readonly string[]): {
  chosenFrom: readonly string[];
  heldOut: readonly string[] | null;
} {
  if (documents.length < fewest) return { chosenFrom: documents, heldOut: null };
  return {
    chosenFrom: documents.filter((_, index) => index % fewest !== fewest - 1),
    heldOut: documents.filter((_, index) => index % fewest === fewest - 1),
  };
}
