import { vocabularyDifference } from '../kit/index.ts';
import { trainErrors } from '../train/index.ts';
import type { CheckpointInfo } from './project.ts';

/** @throws CUPEL_TRAIN_TEACHER_VOCABULARY naming a token that is another one for the teacher */
export async function checkTeacherVocabulary(student: CheckpointInfo, teacher: CheckpointInfo): Promise<void> {
  const difference = await vocabularyDifference(student.path, teacher.path);
  if (difference === null) return;
  throw trainErrors.CUPEL_TRAIN_TEACHER_VOCABULARY({
    message: `teacher "${teacher.id}" beside base "${student.id}": ${difference}`,
    where: teacher.path,
  });
}
