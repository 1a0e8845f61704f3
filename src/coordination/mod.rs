//! Who may decide: the memory of a sole router.
