import type { Model } from '../contracts/index.ts';

/** A model whose every request takes an adapter that it was opened with. It does not train: adapters are not merged. */
export function adaptedModel(model: Model, adapter: string, digest: string): Model {
  return {
    digest,
    engine: model.engine,
    contextLength: model.contextLength,
    vocabularySize: model.vocabularySize,
    endOfTurn: model.endOfTurn,
    ...(model.settings === undefined ? {} : { settings: model.settings }),
    generate: (requests, signal, stream) =>
      model.generate(
        requests.map((request) => ({ ...request, adapter })),
        signal,
        stream,
      ),
    score: (requests, signal) =>
      model.score(
        requests.map((request) => ({ ...request, adapter })),
        signal,
      ),
    ...(model.checkConstraint === undefined
      ? {}
      : { checkConstraint: (constraint) => model.checkConstraint?.(constraint) ?? Promise.resolve() }),
    tokenize: (text) => model.tokenize(text),
    detokenize: (ids) => model.detokenize(ids),
    render: (messages, options) => model.render(messages, options),
    close: () => model.close(),
  };
}
