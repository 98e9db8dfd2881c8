// SPDX-License-Identifier: Apache-2.0
use super::*;

#[test]
fn moments_are_spread_evenly() {
    let moments: Vec<Moment> =
        (0..100).map(|until| Moment { until, missing: Vec::new() }).collect();
    let chosen: Vec<usize> = spread(&moments, 4).iter().map(|moment| moment.until).collect();
    assert_eq!(chosen, [12, 37, 62, 87]);
    assert_eq!(spread(&moments[..3], 50).len(), 3);
    assert!(spread(&[], 5).is_empty());
}

#[test]
fn half_a_document_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("generations")).unwrap();
    let documents = "[]";
    let sha256 = image::tree::sha256(documents.as_bytes());
    let whole = serde_json::json!({"number": 1, "sha256": sha256, "documents": documents});
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("generations/1.json", &whole.to_string());
    write("boot", "7");
    write("generations/2.json.new", "{");
    assert_eq!(generations(folder.path()).unwrap(), 1);
    write("generations/2.json", &whole.to_string().replace("[]", "[1]"));
    assert!(generations(folder.path()).unwrap_err().to_string().contains("2.json"));
    write("generations/2.json", "{");
    assert!(generations(folder.path()).unwrap_err().to_string().contains("not whole"));
}

#[test]
fn what_a_cut_always_leaves_is_no_finding() {
    let usual = "fsck.fat 4.2 (2021-01-31)\nDirty bit is set. Fs was not properly unmounted and some data may be corrupt.\n\
                 Automatically removing dirty bit.\nFree cluster summary wrong (122350 vs. really 114000)\n  Auto-correcting.\n\
                 /EFI/Linux/incoming.efi.part\n  File size is 4096 bytes, cluster chain length is 0 bytes.\n  Truncating file to 0 bytes.\n\
                 \n*** Filesystem was changed ***\nThe changes have not yet been written, you can still choose to leave the filesystem unmodified.\n\
                 esp.img: 7 files, 8350/130812 clusters\n";
    assert_eq!(remarks(usual), Ok(()));
    let bad = "/EFI/Linux/stele_1.efi\n  Contains a free cluster (9). Assuming EOF.\n";
    assert!(remarks(bad).unwrap_err().contains("free cluster"));
}
