import type { Model } from '../contracts/index.ts';
import { digestOf, isCupelError } from '../kit/index.ts';

/**
 * What the chat template writes for a fixed conversation, as a digest: equal templates, equal digests. `none`: the
 * checkpoint has no template, or one that refuses this conversation, as those of pretrained bases may.
 */
export function templateDigest(model: Model): string {
  const messages = (['system', 'user', 'assistant', 'user'] as const).map((role) => ({
    role,
    content: `${role} says`,
  }));
  try {
    return digestOf([true, false].map((addGenerationPrompt) => model.render(messages, { addGenerationPrompt })));
  } catch (error) {
    if (isCupelError(error)) return 'none';
    throw error;
  }
}
