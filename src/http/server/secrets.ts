/**
 * Compares a text with a secret. Every character is compared, even after a difference: a proxy may send requests of
 * several clients on one connection, and the time taken must not tell one client how much of another's token it has
 * guessed.
 */
export function isSecret(secret: string, given: string): boolean {
  if (secret.length !== given.length) return false;
  let difference = 0;
  for (let at = 0; at < secret.length; at++) difference |= secret.charCodeAt(at) ^ given.charCodeAt(at);
  return difference === 0;
}
