// What the person who uses the page can mend: its message is one line for them.
export class UserError extends Error {}
